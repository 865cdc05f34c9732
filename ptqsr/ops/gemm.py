"""Products of integer matrices, as functions."""

from __future__ import annotations

import torch


def gemm_s8(
    a: torch.Tensor,
    b: torch.Tensor,
    scale: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    relu: bool = False,
    out_dtype: torch.dtype = torch.int32,
) -> torch.Tensor:
    """Multiply A [M, K], int8 or uint8, by the transpose of B [N, K], int8.

    out_dtype int32: the exact sums [M, N]. float32, float16, int8 or uint8:

        v = sum * scale + bias      scale, bias: float32 [N]; each step rounded to float32
        v = max(v, 0)               if relu

    rounded to out_dtype, half to even; of int8 and uint8 what lies beyond becomes the nearest end,
    NaN the lowest. Raises ValueError or TypeError for what does not fit.
    """
    signed_a = a.dtype != torch.uint8
    return torch.ops.ptqsr.gemm(a, b, 8, signed_a, scale, bias, relu, out_dtype)


def gemm_s4(
    a: torch.Tensor,
    b: torch.Tensor,
    signed_a: bool = True,
    scale: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    relu: bool = False,
    out_dtype: torch.dtype = torch.int32,
) -> torch.Tensor:
    """Multiply matrices of 4 bits, as `gemm_s8`: A uint8 [M, K/2] by B uint8 [N, K/2].

    A byte holds two neighbours along K, the first in its low half, as `pack_codes` makes them:
    numbers from -8 to 7 as their lowest 4 bits; A from 0 to 15 where it is not `signed_a`.
    """
    return torch.ops.ptqsr.gemm(a, b, 4, signed_a, scale, bias, relu, out_dtype)
