"""The golden models by GPU kernels: exact, in every geometry."""

from __future__ import annotations

import pytest
import torch
from ops.conv_cases import CASES, Case, integers, seeded

from ptqsr.ops.reference import conv as reference
from ptqsr.points import PRESETS, UniversalSet

from .conftest import Emulated, OnGpu

Kernels = Emulated | OnGpu

SETS = {name: UniversalSet.preset(name) for name in PRESETS if name != "int8"}
SETS["custom"] = UniversalSet.from_words([[0.5, 0, 1, 0.25, 2**-5], [0, 1], [0, 0.5, 0.25]])
ONE = ([1, 1], [0, 0], [1, 1], 1)

every_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8], ids=str)
@every_case
def test_int_conv2d(kernels: Kernels, case: Case, dtype: torch.dtype) -> None:
    g = seeded(case)
    k = integers(*((-128, 127) if dtype == torch.int8 else (0, 255)), case.x, g).to(dtype)
    weight = integers(-128, 127, case.weight, g).to(torch.int8)
    expected = reference.int_conv2d(k, weight, *case.geometry)
    spread = k.repeat_interleave(2, 3)[..., ::2]
    for x in (k, k.contiguous(memory_format=torch.channels_last), spread):
        y = kernels.int_conv2d(x, weight, *case.geometry)
        assert y.dtype == torch.int32 and torch.equal(y, expected)
        assert y.stride() == expected.stride()


def test_int_conv2d_at_the_extremes(kernels: Kernels) -> None:
    weight = torch.full((2, 64, 3, 3), -128, dtype=torch.int8)
    k = torch.full((1, 64, 3, 3), 255, dtype=torch.uint8)
    assert kernels.int_conv2d(k, weight, *ONE).unique().item() == -255 * 128 * 64 * 9
    k = torch.full((1, 64, 3, 3), -128, dtype=torch.int8)
    assert kernels.int_conv2d(k, weight, *ONE).unique().item() == 128 * 128 * 64 * 9


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16], ids=str)
@every_case
def test_shift_add(kernels: Kernels, case: Case, dtype: torch.dtype) -> None:
    name = sorted(SETS)[CASES.index(case) % len(SETS)]
    table, shifts = map(torch.from_numpy, SETS[name].shift_codes())
    g = seeded(case)
    index = integers(0, len(table) - 1, case.x, g).long()
    limit = 128 if dtype == torch.int8 else 2000
    weight = integers(-limit, limit - 1, case.weight, g).to(dtype)
    y = kernels.shift_add_conv2d(table[index], shifts, weight, *case.geometry)
    expected = reference.shift_add_conv2d(table[index], shifts, weight, *case.geometry)
    assert torch.equal(y, expected) and y.stride() == expected.stride()
    points = torch.from_numpy(SETS[name].integers)[index]
    assert torch.equal(y.double(), case.conv(points, weight))


@pytest.mark.parametrize("words, elements", [(1, 1), (40, 1), (3, 5), (10, 8), (1, 300)])
def test_shift_add_of_any_codes(kernels: Kernels, words: int, elements: int) -> None:
    """Indices beyond the elements, bits beyond the sign, shifts that leave int32."""
    g = torch.Generator().manual_seed(words)
    codes = integers(-(2**31), 2**31 - 1, (2, 3, 4, 4), g)
    shifts = integers(-1, 33, (words, elements), g)
    weight = integers(-3, 3, (2, 3, 3, 3), g).to(torch.int8)
    y = kernels.shift_add_conv2d(codes, shifts, weight, *ONE)
    assert torch.equal(y, reference.shift_add_conv2d(codes, shifts, weight, *ONE))


def test_an_empty_batch(kernels: Kernels) -> None:
    k, weight = torch.zeros((0, 2, 3, 3), dtype=torch.int8), torch.zeros(4, 2, 3, 3).to(torch.int8)
    assert kernels.int_conv2d(k, weight, *ONE).shape == (0, 4, 1, 1)
    shifts = torch.zeros((1, 2), dtype=torch.int32)
    assert kernels.shift_add_conv2d(k.int(), shifts, weight, *ONE).shape == (0, 4, 1, 1)
