"""Products of integer matrices in plain PyTorch."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.gemm import check_gemm
from ptqsr.ops.schema.library import library


def gemm(
    a: torch.Tensor,
    b: torch.Tensor,
    bits: int,
    signed_a: bool,
    scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    relu: bool,
    out_dtype: torch.dtype,
) -> torch.Tensor:
    check_gemm(a, b, bits, signed_a, scale, bias, relu, out_dtype)
    if bits == 4:
        a, b = _codes(a, signed_a), _codes(b, True)
    # Exact: float64 holds every sum.
    sums = (a.double() @ b.double().t()).to(torch.int32)
    if out_dtype == torch.int32:
        return sums
    v = sums.to(torch.float32)
    if scale is not None:
        v = v * scale
    if bias is not None:
        v = v + bias
    if relu:
        v = torch.relu(v)
    if out_dtype.is_floating_point:
        return v.to(out_dtype)
    limits = torch.iinfo(out_dtype)
    v = torch.where(v.isnan(), float(limits.min), v)
    return torch.round(v.clamp(limits.min, limits.max)).to(out_dtype)


def _codes(packed: torch.Tensor, signed: bool) -> torch.Tensor:
    """Return two codes of 4 bits for every byte, the low half first."""
    codes = torch.stack((packed & 15, packed >> 4), -1).flatten(-2).to(torch.int8)
    return torch.where(codes > 7, codes - 16, codes) if signed else codes


# A call, not a decorator: that would leave None in place of the function.
torch.library.register_kernel("ptqsr::gemm", None, gemm, lib=library)
