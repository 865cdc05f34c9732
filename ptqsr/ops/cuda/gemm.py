"""Products of integer matrices on tensor cores."""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F

from ptqsr.ops.cuda.kernel import kernel, number_of, stream_of
from ptqsr.ops.reference import gemm as reference
from ptqsr.ops.schema.gemm import check_gemm

ALIGNMENT = 16  # bytes, of every row


@kernel(reference.gemm)
def gemm(
    module: ModuleType,
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
    a, b = _aligned(a), _aligned(b)
    scale, bias = (None if t is None else t.contiguous() for t in (scale, bias))
    c = a.new_empty((m, n), dtype=out_dtype)
    module.gemm(
        a.data_ptr(), b.data_ptr(), m, n, a.shape[1] * (8 // bits), bits, signed_a,
        number_of(c), c.data_ptr(), *(0 if t is None else t.data_ptr() for t in (scale, bias)),
        relu, stream_of(a),
    )  # fmt: skip
    return c


def _aligned(x: torch.Tensor) -> torch.Tensor:
    """Return a matrix whose rows begin at multiples of 16 bytes: a copy where they do not."""
    short = -x.shape[1] % ALIGNMENT
    x = F.pad(x, (0, short)) if short else x.contiguous()
    return x.clone() if x.data_ptr() % ALIGNMENT else x
