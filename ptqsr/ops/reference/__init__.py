"""The truth: every operation in plain PyTorch, its default on any device."""

from ptqsr.ops.reference import (
    conv,
    fused_conv,
    gemm,
    histogram,
    moments,
    packing,
    subset,
    uniform,
)

__all__ = ["conv", "fused_conv", "gemm", "histogram", "moments", "packing", "subset", "uniform"]
