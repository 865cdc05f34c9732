"""Weights as integers so that outputs stay, not weights: ranges and rounding in closed form.

What a convolution multiplies is known from calibration. Of rows x of its input (a window each) the
error of an output channel is (w^ - w)^T H (w^ - w) with H = sum x x^T, and H tells which weights
matter and which may make up for each other.
"""

from __future__ import annotations

import torch

from ptqsr.quantizers.uniform import grid

# The range that loses least is looked for down to this part of [min, max], in so many steps.
NARROWEST, RANGES = 0.35, 40
# Of the diagonal's mean: keeps H invertible where inputs are few or move together.
DAMPING = 0.01


def best_grid(
    weight: torch.Tensor, bits: int, importance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (step float32 [O], lowest level int32 [O]) of the range that loses least.

    weight: [O, n]; importance: [n], of the squared error of each. The range is [min, max] with 0,
    made narrower at both ends alike.
    """
    low, high = weight.amin(1).clamp(max=0), weight.amax(1).clamp(min=0)
    step, lowest = grid(low, high, bits)
    least = torch.full_like(low, torch.inf)
    # The whole range comes first: where none loses less, it stays.
    for part in torch.linspace(NARROWEST, 1, RANGES).flip(0):
        tried, at = grid(low * part, high * part, bits)
        levels = torch.round(weight / tried[:, None]).clamp(*_limits(at[:, None], bits))
        loss = ((levels * tried[:, None] - weight).square() * importance).sum(1)
        better = loss < least
        least = torch.where(better, loss, least)
        step, lowest = torch.where(better, tried, step), torch.where(better, at, lowest)
    return step, lowest


def compensated(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    step: torch.Tensor,
    lowest: torch.Tensor,
    bits: int,
) -> torch.Tensor:
    """Return the weight in steps, float64 [O, n], as each was when its turn to be rounded came.

    Rounded to nearest and clamped these are the levels: the error of each is made up for by those
    that come after it.

    weight: [O, n]; hessian: float64 [n, n], positive semidefinite; step and lowest: [O]. GPTQ
    (Frantar et al., 2022), Eqs. 2-3 by way of a Cholesky factor, the inputs of most energy first.
    """
    count = len(hessian)
    damping = DAMPING * hessian.diagonal().mean()
    # What is never there may be anything: it makes up for nothing.
    damped = hessian + torch.eye(count, dtype=torch.float64) * (damping if damping > 0 else 1.0)
    order = torch.argsort(damped.diagonal(), descending=True, stable=True)
    damped = damped[order][:, order]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor = torch.linalg.cholesky(inverse, upper=True)
    left = weight.to(torch.float64)[:, order]
    size, limits = step.to(torch.float64), _limits(lowest, bits)
    found = torch.empty_like(left)
    for i in range(count):
        found[:, order[i]] = steps = left[:, i] / size
        error = (left[:, i] - torch.round(steps).clamp(*limits) * size) / factor[i, i]
        left[:, i:] -= error[:, None] * factor[i, i:]
    return found


def _limits(lowest: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    return lowest, lowest + (1 << bits) - 1
