"""The truth: every operation in plain PyTorch, its default on any device."""

from ptqsr.ops.reference import subset

__all__ = ["subset"]
