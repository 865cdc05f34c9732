"""Packing of codes in plain PyTorch."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.library import library
from ptqsr.ops.schema.packing import check_pack, check_unpack, packed_bytes


def pack_codes(codes: torch.Tensor, bits: int) -> torch.Tensor:
    check_pack(codes, bits)
    if (codes.int() >> bits).any():
        raise ValueError(f"pack_codes: a code is too large for {bits} bits")
    places = torch.arange(bits, device=codes.device, dtype=torch.uint8)
    stream = (codes[..., None] >> places & 1).flatten(-2)
    size = packed_bytes(codes.shape[-1], bits)
    stream = torch.nn.functional.pad(stream, (0, 8 * size - stream.shape[-1]))
    return _bytes(stream.unflatten(-1, (size, 8)))


def unpack_codes(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    check_unpack(packed, bits, count)
    places = torch.arange(8, device=packed.device, dtype=torch.uint8)
    stream = (packed[..., None] >> places & 1).flatten(-2)[..., : count * bits]
    return _bytes(stream.unflatten(-1, (count, bits)))


def _bytes(bits: torch.Tensor) -> torch.Tensor:
    """Return the numbers whose bits are the last dimension, least significant first."""
    places = torch.arange(bits.shape[-1], device=bits.device, dtype=torch.uint8)
    return (bits << places).sum(-1, dtype=torch.uint8)


for _function in (pack_codes, unpack_codes):
    torch.library.register_kernel(f"ptqsr::{_function.__name__}", None, _function, lib=library)
