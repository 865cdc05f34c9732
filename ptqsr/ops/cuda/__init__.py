"""CUDA kernels, in place of the references where the native module has them."""

from ptqsr.ops.cuda import conv, packing, subset, uniform

__all__ = ["conv", "packing", "subset", "uniform"]
