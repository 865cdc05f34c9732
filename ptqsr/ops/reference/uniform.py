"""Uniform quantization in plain PyTorch."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.library import layout, library
from ptqsr.ops.schema.uniform import check_uniform


def levels(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, count: torch.Tensor | int
) -> torch.Tensor:
    """Return clamp(round(x / step)) to `count` levels, float32; NaN stays."""
    return torch.round(x.to(torch.float32) / step).clamp(lowest, lowest + (count - 1))


def uniform_fake_quant(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    check_uniform("uniform_fake_quant", x, step, lowest, bits)
    y = levels(x, step, lowest, 1 << bits) * step + 0.0  # -0 becomes 0
    return y.to(x.dtype).contiguous(memory_format=layout(x))


def uniform_encode(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    check_uniform("uniform_encode", x, step, lowest, bits)
    codes = encoded(x, step, lowest, 1 << bits)
    return codes.contiguous(memory_format=layout(x))


def encoded(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, count: torch.Tensor | int
) -> torch.Tensor:
    """Return what `levels` gives less `lowest`, uint8; NaN gives 0."""
    return (levels(x, step, lowest, count) - lowest).nan_to_num(0).to(torch.uint8)


for _function in (uniform_fake_quant, uniform_encode):
    torch.library.register_kernel(f"ptqsr::{_function.__name__}", None, _function, lib=library)
