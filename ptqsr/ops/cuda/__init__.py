"""CUDA kernels, in place of the references where the native module has them."""

from ptqsr.ops.cuda import subset, uniform

__all__ = ["subset", "uniform"]
