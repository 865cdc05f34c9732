"""Packing of codes on the CPU."""

from __future__ import annotations

import torch

from ptqsr import native
from ptqsr.ops.reference import packing as reference
from ptqsr.ops.schema.library import library
from ptqsr.ops.schema.packing import check_pack, check_unpack, packed_bytes


@torch.library.register_kernel("ptqsr::pack_codes", "cpu", lib=library)
def _pack_codes(codes: torch.Tensor, bits: int) -> torch.Tensor:
    kernels = native.load()
    if kernels is None:
        return reference.pack_codes(codes, bits)
    check_pack(codes, bits)
    codes = codes.contiguous()
    rows, count = codes.shape[:-1], codes.shape[-1]
    packed = codes.new_empty((*rows, packed_bytes(count, bits)))
    kernels.pack_codes(
        codes.data_ptr(),
        packed.data_ptr(),
        rows.numel(),
        count,
        bits,
        torch.get_num_threads(),
    )
    return packed


@torch.library.register_kernel("ptqsr::unpack_codes", "cpu", lib=library)
def _unpack_codes(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    kernels = native.load()
    if kernels is None:
        return reference.unpack_codes(packed, bits, count)
    check_unpack(packed, bits, count)
    packed = packed.contiguous()
    rows = packed.shape[:-1]
    codes = packed.new_empty((*rows, count))
    kernels.unpack_codes(
        packed.data_ptr(),
        codes.data_ptr(),
        rows.numel(),
        count,
        bits,
        torch.get_num_threads(),
    )
    return codes
