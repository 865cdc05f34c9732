"""Signed integers of 2 to 8 bits as one stream without gaps, as checkpoints store weights."""

from __future__ import annotations

import math

import torch

from ptqsr import ops


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Return signed codes of any shape, int8, as a uint8 stream of `bits` bits each.

    A code is stored as code + 2^(bits-1), as `ops.pack_codes` packs.
    """
    unsigned = codes.flatten().to(torch.int16) + (1 << (bits - 1))
    return ops.pack_codes(unsigned.to(torch.uint8), bits)


def unpack(stream: torch.Tensor, bits: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Return what `pack` was given, as int8; raises ValueError for another stream."""
    if not all(isinstance(size, int) and size >= 0 for size in (bits, *shape)):
        raise ValueError("bits or sizes that are no whole numbers")
    count = math.prod(shape)
    # Here, and not by the operation: a count from a file may exceed 64 bits.
    if (
        stream.dtype != torch.uint8
        or stream.shape != (-(-count * bits // 8),)
        or not 2 <= bits <= 8
    ):
        raise ValueError(f"{stream.numel()} bytes do not hold {count} codes of {bits} bits")
    unsigned = ops.unpack_codes(stream, bits, count)
    return (unsigned.to(torch.int16) - (1 << (bits - 1))).to(torch.int8).view(shape)
