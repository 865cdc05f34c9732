"""Packing of codes on GPUs.

Values of tensors are not looked at: of a code that is too large the low bits are taken, no error.
"""

from __future__ import annotations

from types import ModuleType

import torch

from ptqsr.ops.cuda.kernel import kernel, stream_of
from ptqsr.ops.reference import packing as reference
from ptqsr.ops.schema.packing import check_pack, check_unpack, packed_bytes


@kernel(reference.pack_codes)
def pack_codes(module: ModuleType, codes: torch.Tensor, bits: int) -> torch.Tensor:
    check_pack(codes, bits)
    codes = codes.contiguous()
    rows, count = codes.shape[:-1], codes.shape[-1]
    packed = codes.new_empty((*rows, packed_bytes(count, bits)))
    module.pack_codes(
        codes.data_ptr(), packed.data_ptr(), rows.numel(), count, bits, stream_of(codes)
    )
    return packed


@kernel(reference.unpack_codes)
def unpack_codes(module: ModuleType, packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    check_unpack(packed, bits, count)
    packed = packed.contiguous()
    rows = packed.shape[:-1]
    codes = packed.new_empty((*rows, count))
    module.unpack_codes(
        packed.data_ptr(), codes.data_ptr(), rows.numel(), count, bits, stream_of(packed)
    )
    return codes
