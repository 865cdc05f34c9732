"""Uniform quantization by GPU kernels, bit for bit against the reference."""

from __future__ import annotations

import pytest
import torch

from ptqsr.ops.reference import uniform as reference

from .conftest import Emulated, OnGpu

Kernels = Emulated | OnGpu

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
GRIDS = [(0.1, -7, 4), (0.037, 0, 8), (0.01, -255, 8), (1.0, -2, 2), (3.0, 5, 3)]
BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def check(kernels: Kernels, x: torch.Tensor, step: float, lowest: int, bits: int) -> None:
    given = (x, torch.tensor(step), torch.tensor(lowest, dtype=torch.int32), bits)
    y, expected = kernels.uniform_fake_quant(*given), reference.uniform_fake_quant(*given)
    same = (y.view(BITS[y.dtype]) == expected.view(BITS[x.dtype])) | (y.isnan() & x.isnan())
    assert same.all(), f"first difference at {(~same).nonzero()[0].tolist()}"
    codes, expected = kernels.uniform_encode(*given), reference.uniform_encode(*given)
    assert codes.dtype == torch.uint8 and torch.equal(codes, expected)
    assert y.stride() == codes.stride() == expected.stride()


@every_dtype
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 7, 9), (1, 64, 9, 7)], ids=str)
def test_equals_reference(
    kernels: Kernels, shape: tuple[int, ...], layout: torch.memory_format, dtype: torch.dtype
) -> None:
    g = torch.Generator().manual_seed(shape[1])
    for step, lowest, bits in GRIDS:
        x = torch.randn(shape, generator=g) * (step * (1 << bits) / 2)
        check(kernels, x.to(dtype).contiguous(memory_format=layout), step, lowest, bits)


@every_dtype
def test_ties_and_extremes(kernels: Kernels, dtype: torch.dtype) -> None:
    half = torch.arange(-300, 301) / 2
    edges = torch.cat((half, half.nextafter(half + 1), half.nextafter(half - 1)))
    nan, inf = torch.nan, torch.inf
    others = torch.tensor([0, -0.0, 1e-45, -1e-45, 6e-8, 3e38, -3e38, inf, -inf, nan, -nan])
    x = torch.cat((edges, others))
    for step in (1.0, 0.3, 2.0**-120, 2.0**100, 1e-45):
        for lowest, bits in ((-128, 8), (0, 8), (-3, 3), (5, 2), (-(1 << 20), 8), (1 << 20, 8)):
            check(kernels, (x * step).to(dtype), step, lowest, bits)
            check(kernels, x.to(dtype), step, lowest, bits)


@every_dtype
def test_shapes_strides_and_alignments(kernels: Kernels, dtype: torch.dtype) -> None:
    for shape in ((), (0,), (7,), (2, 0, 3), (3, 5, 2), (2, 3, 2, 2, 2), (4, 515)):
        check(kernels, torch.randn(shape).to(dtype), 0.3, -4, 3)
    x = torch.randn(4, 6, 8, 5).to(dtype)
    for strided in (x[:, ::2, 1:], x.transpose(1, 3), x[:1, :, :1].expand(3, 6, 4, 5)):
        check(kernels, strided, 0.3, -4, 3)
    for start in range(1, 5):
        check(kernels, x.flatten()[start:], 0.3, -4, 3)
