"""pack_codes and unpack_codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptqsr import native, ops
from ptqsr.ops.reference import packing as reference


def random_codes(shape: tuple[int, ...], bits: int) -> torch.Tensor:
    return torch.randint(0, 1 << bits, shape, dtype=torch.uint8)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, 8, 9, 17, 64, 65])
@pytest.mark.parametrize("rows", [(), (1,), (3, 5), (2, 0)], ids=str)
def test_equals_reference_and_comes_back(bits: int, count: int, rows: tuple[int, ...]) -> None:
    codes = random_codes((*rows, count), bits)
    packed = ops.pack_codes(codes, bits)
    assert packed.shape == (*rows, -(-count * bits // 8))
    assert torch.equal(packed, reference.pack_codes(codes, bits))
    assert torch.equal(ops.unpack_codes(packed, bits, count), codes)
    assert torch.equal(reference.unpack_codes(packed, bits, count), codes)


@settings(deadline=None)
@given(st.integers(2, 8), st.lists(st.integers(0, 255), min_size=1, max_size=50))
def test_is_numpys_little_bit_order(bits: int, values: list[int]) -> None:
    codes = (np.array(values) % (1 << bits)).astype(np.uint8)
    stream = np.unpackbits(codes[:, None], axis=1, count=bits, bitorder="little")
    expected = np.packbits(stream, bitorder="little")
    assert np.array_equal(ops.pack_codes(torch.from_numpy(codes), bits).numpy(), expected)


def test_the_drawing_of_the_docstring() -> None:
    codes = torch.tensor([0b101, 0b010, 0b110], dtype=torch.uint8)
    assert ops.pack_codes(codes, 3).tolist() == [0b10010101, 0b00000001]


def test_many_rows_on_many_threads() -> None:
    codes = random_codes((7, 90, 100, 13), 5)
    packed = ops.pack_codes(codes, 5)
    assert torch.equal(packed[3, 5], ops.pack_codes(codes[3, 5], 5))
    assert torch.equal(ops.unpack_codes(packed, 5, 13), codes)


def test_other_strides() -> None:
    codes = random_codes((6, 20, 7), 3).transpose(0, 1)[::3]
    packed = ops.pack_codes(codes, 3)
    assert torch.equal(packed, reference.pack_codes(codes, 3))
    spread = packed.repeat_interleave(2, -1)[..., ::2]
    assert not spread.is_contiguous()
    assert torch.equal(ops.unpack_codes(spread, 3, 7), codes)


@pytest.mark.parametrize("name", ["pack_codes", "unpack_codes"])
def test_native_kernels_are_registered(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"ptqsr::{name}", "CPU")


def test_opcheck() -> None:
    codes = random_codes((2, 3, 11), 3)
    torch.library.opcheck(torch.ops.ptqsr.pack_codes.default, (codes, 3))
    packed = ops.pack_codes(codes, 3)
    torch.library.opcheck(torch.ops.ptqsr.unpack_codes.default, (packed, 3, 11))


@pytest.mark.parametrize("use_reference", [False, True], ids=["native", "reference"])
def test_bad_input(use_reference: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if use_reference:
        monkeypatch.setattr(native, "load", lambda: None)
    codes = torch.zeros(2, 5, dtype=torch.uint8)
    for bits in (1, 9, 0, -3):
        with pytest.raises(ValueError, match="from 2 to 8"):
            ops.pack_codes(codes, bits)
        with pytest.raises(ValueError, match="from 2 to 8"):
            ops.unpack_codes(codes, bits, 5)
    with pytest.raises(TypeError, match="uint8"):
        ops.pack_codes(codes.int(), 4)
    with pytest.raises(TypeError, match="uint8"):
        ops.unpack_codes(codes.int(), 4, 10)
    with pytest.raises(ValueError, match="no dimension"):
        ops.pack_codes(codes[0, 0], 4)
    for count in (8, 11, -1, 1 << 40):
        with pytest.raises(ValueError, match="do not hold"):
            ops.unpack_codes(codes, 4, count)
    for place in ((0, 0), (1, 4)):
        large = codes.clone()
        large[place] = 16
        with pytest.raises(ValueError, match="too large"):
            ops.pack_codes(large, 4)
