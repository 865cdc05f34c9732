"""What quantization passes back: the gradients of its relaxed form, where rounding is identity."""

from __future__ import annotations

from typing import Any

import torch

from ptqsr.quantizers import quantized

Bound = torch.Tensor | float | None


class _Ranged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        low: torch.Tensor,
        high: torch.Tensor,
        step: torch.Tensor,
        lowest: torch.Tensor,
        bits: int,
        highest: torch.Tensor | int | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, low, high)
        return quantized(x, step, lowest, bits, highest)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        x, low, high = ctx.saved_tensors
        # Where 0 is an end of the range, zeros (half of what ReLU gives) are inside.
        below, above = (x <= low) & (x < 0), (x >= high) & (x > 0)
        zero = gradient.new_zeros(())
        to_low = torch.where(below, gradient, zero).sum() if ctx.needs_input_grad[1] else None
        to_high = torch.where(above, gradient, zero).sum() if ctx.needs_input_grad[2] else None
        to_x = torch.where(below | above, zero, gradient).to(x.dtype)
        return to_x, to_low, to_high, None, None, None, None


def quantize_within(
    x: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
    step: torch.Tensor,
    lowest: torch.Tensor,
    *,
    bits: int,
    highest: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Return what UniformQuantizer makes of x, with gradients for x and the ends of its range.

    low <= 0 <= high: float32 scalars. The gradients are those of clamp(x, low, high): 1 for x
    inside and 0 outside, 1 for `low` where x is at or below it, 1 for `high` where x is at or above
    (PAMS, Eq. 3, with low = -alpha and high = alpha).
    """
    return _Ranged.apply(x, low, high, step, lowest, bits, highest)  # type: ignore[no-any-return]


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Return round(x), half to even; its gradient is 1 (the straight-through estimator)."""
    return _Rounded.apply(x)  # type: ignore[no-any-return]


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, least: Bound, most: Bound) -> torch.Tensor:
        return torch.clamp(x, least, most)  # type: ignore[arg-type]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradients[0], None, None


def held(x: torch.Tensor, least: Bound = None, most: Bound = None) -> torch.Tensor:
    """Return x clamped; its gradient is 1 everywhere, so that what has left may come back."""
    return _Held.apply(x, least, most)  # type: ignore[no-any-return]
