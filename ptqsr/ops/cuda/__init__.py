"""CUDA kernels, in place of the references where the native module has them."""

from ptqsr.ops.cuda import conv, gemm, packing, subset, subset_conv, uniform, uniform_conv

__all__ = ["conv", "gemm", "packing", "subset", "subset_conv", "uniform", "uniform_conv"]
