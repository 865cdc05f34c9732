"""CUDA kernels, in place of the references where the native module has them."""

from ptqsr.ops.cuda import packing, subset, uniform

__all__ = ["packing", "subset", "uniform"]
