"""Uniform quantization in plain PyTorch."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.library import layout, library
from ptqsr.ops.schema.uniform import check_uniform


def levels(x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int) -> torch.Tensor:
    """Return clamp(round(x / step)), float32; NaN stays."""
    return torch.round(x.to(torch.float32) / step).clamp(lowest, lowest + ((1 << bits) - 1))


def uniform_fake_quant(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    check_uniform("uniform_fake_quant", x, step, lowest, bits)
    y = levels(x, step, lowest, bits) * step + 0.0  # -0 becomes 0
    return y.to(x.dtype).contiguous(memory_format=layout(x))


def uniform_encode(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    check_uniform("uniform_encode", x, step, lowest, bits)
    codes = (levels(x, step, lowest, bits) - lowest).nan_to_num(0)
    return codes.to(torch.uint8).contiguous(memory_format=layout(x))


for _function in (uniform_fake_quant, uniform_encode):
    torch.library.register_kernel(f"ptqsr::{_function.__name__}", None, _function, lib=library)
