"""The truth: every operation in plain PyTorch, its default on any device."""

from ptqsr.ops.reference import packing, subset, uniform

__all__ = ["packing", "subset", "uniform"]
