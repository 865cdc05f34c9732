"""Pictures through networks, whole or in tiles, within a memory limit."""

from ptqsr.upscaling.plan import Plan, Planner
from ptqsr.upscaling.run import run, upscale, upscale_fitting, upscale_picture

__all__ = ["Plan", "Planner", "run", "upscale", "upscale_fitting", "upscale_picture"]
