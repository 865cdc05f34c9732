"""The truth: every operation in plain PyTorch, its default on any device."""

from ptqsr.ops.reference import histogram, subset

__all__ = ["histogram", "subset"]
