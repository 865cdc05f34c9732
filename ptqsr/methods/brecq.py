"""BRECQ (Li et al., ICLR 2021) and QDrop (Wei et al., ICLR 2022)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr.calibration import ValueHistogram
from ptqsr.methods.records import Options
from ptqsr.methods.uniform import Clipped
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import QuantizedWeight, best_grid
from ptqsr.quantizers.uniform import grid

PARTS = 100  # of either side of [min, max], of which the range is made


class BRECQ(Clipped):
    """Activations per tensor, from the range that loses least squared error; steps are learned.

    Where the rule asks for the whole range the step stays.
    """

    name = "brecq"
    drop: ClassVar[float] = 0.0

    def range(self, histogram: ValueHistogram) -> tuple[float, float]:
        return best_range(histogram, self.rule.act_bits)

    @torch.no_grad()
    def weight(self, weight: torch.Tensor) -> QuantizedWeight:
        """Return the weight in the range that loses least of its squares, rounded to nearest."""
        flat, bits = weight.detach().to(torch.float32).flatten(1), self.rule.weight_bits
        step, lowest = best_grid(flat, bits, torch.ones_like(flat[0]))
        levels = torch.round(flat / step[:, None]).view(weight.shape)
        return QuantizedWeight.from_levels(levels, step, lowest, bits)

    def reconstruction(self, layers: Sequence[str]) -> Options | None:
        config = self.config
        if not config.iterations:
            return None
        return Options(config.iterations, config.seed, drop=self.drop, learned_steps=layers)

    @torch.no_grad()
    def latents(
        self, network: SRNetwork, model: SRNetwork, names: Iterable[str]
    ) -> dict[str, torch.Tensor]:
        latents = {}
        for name in names:
            layer, original = network.get_submodule(name), model.get_submodule(name)
            assert isinstance(layer, FakeQuantConv2d) and isinstance(original, nn.Conv2d)
            weight = original.weight.detach().to(torch.float32)
            latents[name] = weight / layer.weight_step.view(-1, *(1,) * (weight.ndim - 1))
        return latents


class QDrop(BRECQ):
    """The same, with half of the activations left unquantized at random while it learns."""

    name = "qdrop"
    drop = 0.5


def best_range(histogram: ValueHistogram, bits: int) -> tuple[float, float]:
    """Return (low, high), low <= 0 <= high, of the 2^bits levels that lose least squared error.

    Tried are all pairs of hundredths of the smallest and of the largest value.
    """
    low, high, bins = histogram.low, histogram.high, histogram.BINS
    if high <= low:
        return low, high
    counts = histogram.counts.double()
    width = (high - low) / bins
    values = low + (torch.arange(bins, dtype=torch.float64) + 0.5) * width
    # Of the values below each bin: how many, their sum, that of their squares.
    sums = [F.pad((counts * values**power).cumsum(0), (1, 0)) for power in range(3)]
    parts = torch.linspace(0, 1, PARTS + 1)
    lows, highs = torch.cartesian_prod(min(low, 0.0) * parts, max(high, 0.0) * parts).unbind(1)
    step, lowest = grid(lows, highs, bits)
    levels = (lowest[:, None] + torch.arange(1 << bits)) * step[:, None].double()
    middles = (levels[:, 1:] + levels[:, :-1]) / 2
    cuts = ((middles - low) / width).round().long().clamp(0, bins)
    cuts = F.pad(F.pad(cuts, (1, 0)), (0, 1), value=bins)
    count, first, second = (column[cuts].diff(dim=1) for column in sums)
    best = (second - 2 * levels * first + levels**2 * count).sum(1).argmin()
    return float(lows[best]), float(highs[best])
