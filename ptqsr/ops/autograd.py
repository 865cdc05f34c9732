"""Gradients of the operations that training goes through."""

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
    level = torch.round(x / step)
    inside = (level >= lowest) & (level <= lowest + ((1 << ctx.bits) - 1))
    return torch.where(inside, gradient, 0), None, None, None


torch.library.register_autograd(
    "ptqsr::uniform_fake_quant", _straight_through, setup_context=_save, lib=library
)
