"""Every operation: its schema, then its shapes. Kernels are registered per device elsewhere."""

from ptqsr.ops.schema import conv, fused_conv, gemm, histogram, packing, subset, uniform
from ptqsr.ops.schema.library import layout, library

__all__ = [
    "conv",
    "fused_conv",
    "gemm",
    "histogram",
    "layout",
    "library",
    "packing",
    "subset",
    "uniform",
]
