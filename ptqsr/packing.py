"""Integers of 2 to 8 bits, packed without gaps."""

from __future__ import annotations

import math

import numpy as np
import torch


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Return signed codes of any shape, int8, as a uint8 stream of `bits` bits each.

    A code is stored as code + 2^(bits-1), least significant bit first, one after the other.
    """
    unsigned = (codes.numpy().reshape(-1, 1).astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    stream = np.unpackbits(unsigned, axis=1, count=bits, bitorder="little")
    return torch.from_numpy(np.packbits(stream, bitorder="little"))


def unpack(stream: torch.Tensor, bits: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Return what `pack` was given, as int8; raises ValueError for another stream."""
    if not all(isinstance(size, int) for size in (bits, *shape)):
        raise ValueError("bits or sizes that are no whole numbers")
    count = math.prod(shape)
    if stream.dtype != torch.uint8 or stream.shape != (-(-count * bits // 8),) or not 0 < bits <= 8:
        raise ValueError(f"{stream.numel()} bytes do not hold {count} codes of {bits} bits")
    flat = np.unpackbits(stream.numpy(), count=count * bits, bitorder="little").reshape(count, bits)
    unsigned = np.packbits(flat, axis=1, bitorder="little")[:, 0]
    codes = (unsigned.astype(np.int16) - (1 << (bits - 1))).astype(np.int8)
    return torch.from_numpy(codes).view(shape)
