"""A layer's weights before and after, in steps of their levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ptqsr.modules import FakeQuantConv2d
from ptqsr.reporting.noise import Noise

BINS = 96


@dataclass(frozen=True)
class Weights:
    """Histograms of w / step before, and of w^ / step after, over all kernels.

    Each kernel has a step of its own; level 0 is weight 0. Bins begin at `low` and are `width`
    (before) and `level_width` (after) wide. `moved`: the share of weights whose level is not the
    one nearest to what they were, since other weights made up for it. `db`: SQNR.
    """

    low: float
    width: float
    before: tuple[int, ...]
    level_width: int
    after: tuple[int, ...]
    moved: float
    db: float


def weights_of(layer: FakeQuantConv2d, original: torch.Tensor) -> Weights:
    """Return the weights of a layer; original: float32 [O, I/groups, K, K], before."""
    quantized = layer.quantized_weight
    levels = quantized.levels()
    step = quantized.step.view(-1, *(1,) * (levels.ndim - 1))
    place = original.detach() / step
    low, high = int(levels.min()), int(levels.max())
    lowest = layer.lowest_level.view(step.shape)
    nearest = place.round().clamp(lowest, lowest + 2**quantized.bits - 1)
    level_width = -(-(high - low + 1) // BINS)
    count = -(-(high - low + 1) // level_width)
    start, stop = low - 0.5, low - 0.5 + count * level_width
    fine = max(1, BINS // count)
    noise = Noise()
    noise.update(original.detach(), quantized.dequantize())

    def histogram(values: torch.Tensor, bins: int) -> tuple[int, ...]:
        inside = values.flatten().double().clamp(start, stop)
        return tuple(torch.histc(inside, bins, start, stop).long().tolist())

    return Weights(
        low=start,
        width=level_width / fine,
        before=histogram(place, count * fine),
        level_width=level_width,
        after=histogram(levels, count),
        moved=float((nearest != levels).double().mean()),
        db=noise.db,
    )
