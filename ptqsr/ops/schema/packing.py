"""Codes of 2 to 8 bits without gaps."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.checks import expect, expect_bits
from ptqsr.ops.schema.library import library

library.define("pack_codes(Tensor codes, int bits) -> Tensor")
library.define("unpack_codes(Tensor packed, int bits, int count) -> Tensor")


def packed_bytes(count: int, bits: int) -> int:
    """Return the bytes of a row of `count` codes."""
    return (count * bits + 7) // 8


@torch.library.register_fake("ptqsr::pack_codes", lib=library)
def _pack_codes(codes: torch.Tensor, bits: int) -> torch.Tensor:
    check_pack(codes, bits)
    return codes.new_empty((*codes.shape[:-1], packed_bytes(codes.shape[-1], bits)))


@torch.library.register_fake("ptqsr::unpack_codes", lib=library)
def _unpack_codes(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    check_unpack(packed, bits, count)
    return packed.new_empty((*packed.shape[:-1], count))


def check_pack(codes: torch.Tensor, bits: int) -> None:
    """Raise ValueError or TypeError for what cannot be packed."""
    expect_bits("pack_codes", bits)
    expect("pack_codes", "codes", codes, torch.uint8, tuple(codes.shape))
    if codes.ndim < 1:
        raise ValueError("pack_codes: codes have no dimension to pack along")


def check_unpack(packed: torch.Tensor, bits: int, count: int) -> None:
    """Raise ValueError or TypeError for bytes that are not those of `count` codes."""
    expect_bits("unpack_codes", bits)
    expect("unpack_codes", "packed", packed, torch.uint8, tuple(packed.shape))
    if packed.ndim < 1 or count < 0 or packed.shape[-1] != packed_bytes(count, bits):
        raise ValueError(
            f"unpack_codes: rows of packed {tuple(packed.shape)} do not hold {count} codes of "
            f"{bits} bits, which are {packed_bytes(count, bits)} bytes"
        )
