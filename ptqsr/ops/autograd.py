"""Gradients of the operations that training goes through, and their type under autocast."""

from __future__ import annotations

from typing import Any

import torch

from ptqsr.ops.schema.library import library


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, step, lowest, ctx.bits = inputs
    ctx.save_for_backward(x, step, lowest)


def _straight_through(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Rounding counts as the identity; clamping lets nothing through."""
    x, step, lowest = ctx.saved_tensors
    level = torch.round(x.to(torch.float32) / step)
    inside = (level >= lowest) & (level <= lowest + ((1 << ctx.bits) - 1))
    return torch.where(inside, gradient, 0), None, None, None


def _refuse(ctx: Any, *gradients: torch.Tensor) -> None:
    raise RuntimeError(
        "integer convolutions have no gradient: train the network that `calibrate` gave, and "
        "deploy it afterwards"
    )


for _name in ("subset_conv2d", "uniform_conv2d", "uniform_conv2d_moments"):
    torch.library.register_autograd(f"ptqsr::{_name}", _refuse, lib=library)
torch.library.register_autograd(
    "ptqsr::uniform_fake_quant", _straight_through, setup_context=_save, lib=library
)

# Statistics, codes and steps are float32's; autocast would hand over bfloat16.
for _name in (
    *("channel_stats", "subset_fake_quant", "subset_encode", "subset_conv2d"),
    *("uniform_fake_quant", "uniform_encode", "uniform_conv2d", "uniform_conv2d_moments"),
):
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(f"ptqsr::{_name}", _device, torch.float32, lib=library)
