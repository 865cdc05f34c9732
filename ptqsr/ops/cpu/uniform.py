"""Uniform quantization on the CPU."""

from __future__ import annotations

from types import ModuleType

import torch

from ptqsr import native
from ptqsr.ops.cpu.kernel import kernel
from ptqsr.ops.reference import uniform as reference
from ptqsr.ops.schema.library import layout
from ptqsr.ops.schema.uniform import check_uniform


@kernel(reference.uniform_fake_quant)
def uniform_fake_quant(
    module: ModuleType, x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    check_uniform("uniform_fake_quant", x, step, lowest, bits)
    dtype, x = x.dtype, x.to(torch.float32).contiguous(memory_format=layout(x))
    y = torch.empty_like(x)
    module.uniform_fake_quant(x.data_ptr(), y.data_ptr(), *_rest(x, step, lowest, bits))
    return y.to(dtype)


@kernel(reference.uniform_encode)
def uniform_encode(
    module: ModuleType, x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    check_uniform("uniform_encode", x, step, lowest, bits)
    x = x.to(torch.float32).contiguous(memory_format=layout(x))
    codes = torch.empty_like(x, dtype=torch.uint8)
    module.uniform_encode(x.data_ptr(), codes.data_ptr(), *_rest(x, step, lowest, bits))
    return codes


def _rest(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> tuple[int, float, int, int, str, int]:
    return (
        x.numel(),
        step.item(),
        int(lowest.item()),
        1 << bits,
        native.cpu_isa(),
        torch.get_num_threads(),
    )
