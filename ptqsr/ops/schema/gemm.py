"""Products of integer matrices."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.checks import expect, expect_one_device, expect_out
from ptqsr.ops.schema.library import library

library.define(
    "gemm(Tensor a, Tensor b, int bits, bool signed_a, Tensor? scale, Tensor? bias, bool relu,"
    " ScalarType out_dtype) -> Tensor"
)

OUT_DTYPES = (torch.int32, torch.float32, torch.float16, torch.int8, torch.uint8)
# Sums of more products than this, of operands within +-255, may leave int32.
MAX_K = (2**31 - 1) // (255 * 128)


def check_gemm(
    a: torch.Tensor,
    b: torch.Tensor,
    bits: int,
    signed_a: bool,
    scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    relu: bool,
    out_dtype: torch.dtype,
) -> tuple[int, int, int]:
    """Return M, N and K; raise where the arguments of gemm do not fit."""
    op = "gemm"
    if bits not in (4, 8):
        raise ValueError(f"{op}: bits is {bits}, must be 4 or 8")
    expect(op, "a", a, torch.int8 if bits == 8 and signed_a else torch.uint8, ("M", "K"))
    expect(op, "b", b, torch.int8 if bits == 8 else torch.uint8, ("N", a.shape[1]))
    m, n, k = a.shape[0], b.shape[0], a.shape[1] * (8 // bits)
    if not 1 <= k <= MAX_K:
        raise ValueError(f"{op}: K is {k}, must be from 1 to {MAX_K}")
    expect_out(op, out_dtype, OUT_DTYPES)
    if out_dtype == torch.int32 and (scale is not None or bias is not None or relu):
        raise ValueError(f"{op}: int32 sums have no scale, bias or ReLU")
    for what, tensor in (("scale", scale), ("bias", bias)):
        if tensor is not None:
            expect(op, what, tensor, torch.float32, (n,))
    expect_one_device(op, a=a, b=b, scale=scale, bias=bias)
    return m, n, k


@torch.library.register_fake("ptqsr::gemm", lib=library)
def _gemm(
    a: torch.Tensor,
    b: torch.Tensor,
    bits: int,
    signed_a: bool,
    scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    relu: bool,
    out_dtype: torch.dtype,
) -> torch.Tensor:
    m, n, _ = check_gemm(a, b, bits, signed_a, scale, bias, relu, out_dtype)
    return a.new_empty((m, n), dtype=out_dtype)
