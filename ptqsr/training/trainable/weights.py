"""How trained weights become integers: which numbers they stand for, with gradients."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from ptqsr.quantizers import QuantizedWeight, grid, symmetric
from ptqsr.training.trainable.functions import held, rounded


class WeightGrid(nn.Module):
    """Sends a float weight to levels * step, per tensor: the same step for every output channel.

    `cuts`: whether weights beyond the lowest and highest level get no gradient. Where the range
    follows the weights, rounding errors alone lead there.
    """

    cuts: ClassVar[bool] = False

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def positions(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (u, step, lowest): where the weight lies among the levels, not yet rounded.

        u: of the weight's shape, differentiable; step: float32 scalar; lowest level: int32 scalar.
        """
        raise NotImplementedError

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return w^ = step * clamp(round(u), lowest, lowest + 2^bits - 1), of the weight's shape.

        The gradient goes straight through rounding.
        """
        levels, step, _ = self.levels(weight)
        return levels * step

    def levels(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (levels, step, lowest): w^ = levels * step, levels float32, differentiable."""
        u, step, lowest = self.positions(weight)
        highest = lowest + ((1 << self.bits) - 1)
        if self.cuts:
            u = u.clamp(lowest, highest)
        return held(rounded(u), lowest, highest), step, lowest

    @torch.no_grad()
    def frozen(self, weight: torch.Tensor) -> QuantizedWeight:
        """Return the integers that `forward` computes with."""
        levels, step, lowest = self.levels(weight)
        kernels = len(weight)
        return QuantizedWeight.from_levels(
            levels, step.repeat(kernels), lowest.repeat(kernels), self.bits
        )

    def extra_repr(self) -> str:
        return f"{self.bits} bits"


class MaxWeights(WeightGrid):
    """PAMS: symmetric, over [-a, a] with a = max |w|, in 2^bits - 1 levels."""

    def positions(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        step, lowest = symmetric(weight.detach().abs().amax(), self.bits)
        return weight / step, step, lowest


class TanhWeights(WeightGrid):
    """DoReFa: of tanh(w) / max |tanh(w)|, on the levels of MaxWeights.

    The largest weight stays what it is, where DoReFa makes it 1: a network without batch
    normalisation would not forgive another scale.
    """

    def positions(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        step, lowest = symmetric(weight.detach().abs().amax(), self.bits)
        bent = torch.tanh(weight)
        largest = bent.detach().abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
        return bent / largest * ((1 << (self.bits - 1)) - 1), step, lowest


class MinMaxWeights(WeightGrid):
    """TF-Lite: asymmetric, over [min, max] and 0, in 2^bits levels."""

    def positions(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        step, lowest = grid(weight.detach().amin(), weight.detach().amax(), self.bits)
        return weight / step, step, lowest


class PercentileWeights(WeightGrid):
    """ODM: asymmetric, over percentiles of the weights that training began with, in 2^bits levels.

    `tail`: of either side, in per cent.
    """

    cuts = True
    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, bits: int, weight: torch.Tensor, tail: float = 1.0) -> None:
        super().__init__(bits)
        low, high = percentiles(weight.detach(), tail)
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def positions(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        step, lowest = grid(self.low, self.high, self.bits)
        return weight / step, step, lowest


def percentiles(values: torch.Tensor, tail: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the values, float32 scalars, below and above which `tail` per cent lie."""
    flat = values.flatten().to(torch.float32)
    count = max(1, round(flat.numel() * tail / 100))
    return flat.kthvalue(count).values, flat.kthvalue(flat.numel() + 1 - count).values
