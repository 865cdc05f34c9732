"""Uniform quantization on the CPU."""

from __future__ import annotations

import torch

from ptqsr import native
from ptqsr.ops.reference import uniform as reference
from ptqsr.ops.schema.library import layout, library
from ptqsr.ops.schema.uniform import check_uniform


@torch.library.register_kernel("ptqsr::uniform_fake_quant", "cpu", lib=library)
def _uniform_fake_quant(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    kernels = native.load()
    if kernels is None:
        return reference.uniform_fake_quant(x, step, lowest, bits)
    check_uniform("uniform_fake_quant", x, step, lowest, bits)
    x = x.contiguous(memory_format=layout(x))
    y = torch.empty_like(x)
    kernels.uniform_fake_quant(x.data_ptr(), y.data_ptr(), *_rest(x, step, lowest, bits))
    return y


@torch.library.register_kernel("ptqsr::uniform_encode", "cpu", lib=library)
def _uniform_encode(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    kernels = native.load()
    if kernels is None:
        return reference.uniform_encode(x, step, lowest, bits)
    check_uniform("uniform_encode", x, step, lowest, bits)
    x = x.contiguous(memory_format=layout(x))
    codes = torch.empty_like(x, dtype=torch.uint8)
    kernels.uniform_encode(x.data_ptr(), codes.data_ptr(), *_rest(x, step, lowest, bits))
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
