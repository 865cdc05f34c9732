"""The truth: every operation in plain PyTorch, its default on any device."""

from ptqsr.ops.reference import conv, encoding, fused_conv, subset

__all__ = ["conv", "encoding", "fused_conv", "subset"]
