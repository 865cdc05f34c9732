"""Large collections on many machines, through Ray Data; the results are those of one machine."""

from ptqsr.cluster.engine import Ray
from ptqsr.cluster.work import evaluate, gather, upscale_files

__all__ = ["Ray", "evaluate", "gather", "upscale_files"]
