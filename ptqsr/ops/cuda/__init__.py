"""CUDA kernels, in place of the references where the native module has them."""

from ptqsr.ops.cuda import gemm, subset, tensor_conv

__all__ = ["gemm", "subset", "tensor_conv"]
