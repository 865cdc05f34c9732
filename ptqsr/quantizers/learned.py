"""Activation quantizers with gradients, for as long as something is learned through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ptqsr import ops
from ptqsr.quantizers.base import ActivationQuantizer
from ptqsr.quantizers.uniform import UniformQuantizer


class StraightThrough(nn.Module):
    """A quantizer as it is; to gradients it is the identity.

    To gradients that is as if nothing were clipped: DFSQ's scale is each channel's own largest
    magnitude, though its outermost point may lie below that.
    """

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _StraightThrough.apply(x, self.quantizer)


class LearnedStep(nn.Module):
    """A uniform quantizer whose step is learned (LSQ: Esser et al., ICLR 2020, Eqs. 3 and 5).

    Unlike there, what lies within half a step beyond the outermost level counts as inside.

    `log_gain`: the logarithm of what the step has become in units of what it was, so that one
    learning rate fits layers of all ranges. The lowest level stays.
    """

    def __init__(self, quantizer: UniformQuantizer) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.start = quantizer.step.clone()
        self.log_gain = nn.Parameter(torch.zeros_like(self.start))

    @property
    def step(self) -> torch.Tensor:
        """The step, float32 scalar."""
        return self.start * self.log_gain.exp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _LearnedStep.apply(x, self.step, self.quantizer.lowest, self.quantizer.bits)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, quantizer: ActivationQuantizer) -> torch.Tensor:
        return quantizer(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return gradient, None


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
    ) -> torch.Tensor:
        y = ops.uniform_fake_quant(x, step, lowest, bits)
        ctx.save_for_backward(x, y, step)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, y, step = ctx.saved_tensors
        error = y - x
        # What was rounded moved by half a step at most (and float rounding); the rest was clipped.
        inside = gradient.masked_fill(error.abs() > 0.501 * step, 0)
        # Inside dy/dstep = round(x / step) - x / step, outside the level itself.
        wanted = ((gradient * y).sum() - (inside * x).sum()) / step
        return inside if ctx.needs_input_grad[0] else None, wanted, None, None
