"""Packing of codes by GPU kernels, against the reference."""

from __future__ import annotations

import pytest
import torch

from ptqsr.ops.reference import packing as reference

from .conftest import Emulated, OnGpu

Kernels = Emulated | OnGpu


def random_codes(shape: tuple[int, ...], bits: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(bits)
    return torch.randint(0, 1 << bits, shape, dtype=torch.uint8, generator=g)


def check(kernels: Kernels, codes: torch.Tensor, bits: int) -> None:
    packed = kernels.pack_codes(codes, bits)
    assert torch.equal(packed, reference.pack_codes(codes, bits))
    assert torch.equal(kernels.unpack_codes(packed, bits, codes.shape[-1]), codes)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("rows", [(), (1,), (3, 5), (2, 0)], ids=str)
def test_equals_reference_and_comes_back(
    kernels: Kernels, rows: tuple[int, ...], bits: int
) -> None:
    for count in (0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 64, 65, 100):
        check(kernels, random_codes((*rows, count), bits), bits)


@pytest.mark.parametrize("bits", range(2, 9))
def test_strides_and_alignments(kernels: Kernels, bits: int) -> None:
    check(kernels, random_codes((6, 20, 7), bits).transpose(0, 1)[::3], bits)
    for start in range(1, 5):
        codes = random_codes((start + 3 * 64,), bits)[start:].view(3, 64)
        check(kernels, codes, bits)
        packed = reference.pack_codes(codes, bits)
        spread = torch.cat((packed.new_zeros(start), packed.flatten()))[start:].view(packed.shape)
        assert torch.equal(kernels.unpack_codes(spread, bits, 64), codes)


@pytest.mark.parametrize("bits", range(2, 8))
def test_of_codes_that_are_too_large_the_low_bits(kernels: Kernels, bits: int) -> None:
    codes = random_codes((3, 35), 8)
    expected = reference.pack_codes(codes & ((1 << bits) - 1), bits)
    assert torch.equal(kernels.pack_codes(codes, bits), expected)
