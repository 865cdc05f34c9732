"""Statistics that are streamed: their size does not grow with the pictures, and they add up.

Bit for bit, in whatever shares and order pictures are taken in: they are smallest and largest
values, and integer counts, of which no sum is rounded. What a sample adds depends on it alone.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from ptqsr import ops


class Measure(Protocol):
    def update(self, x: torch.Tensor) -> None:
        """Take in an activation, float32 [N, C, H, W]."""


class Statistics(Measure, Protocol):
    def add(self, other: Any) -> None:
        """Take in what another of this kind, made alike, has taken in."""


class ChannelRanges:
    """Smallest and largest value of every channel over all samples: float32 [C]."""

    def __init__(self, channels: int) -> None:
        self.low = torch.full((channels,), torch.inf)
        self.high = torch.full((channels,), -torch.inf)

    def update(self, x: torch.Tensor) -> None:
        # Two passes, yet twenty times faster than torch.aminmax, which has no vectors here.
        self._widen(x.amin((0, 2, 3)).cpu(), x.amax((0, 2, 3)).cpu())

    def add(self, other: ChannelRanges) -> None:
        self._widen(other.low, other.high)

    def _widen(self, low: torch.Tensor, high: torch.Tensor) -> None:
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)

    @property
    def nonnegative(self) -> torch.Tensor:
        """bool [C]: the channels that were never negative."""
        return self.low >= 0


class ValueHistogram:
    """Counts of a tensor's values over a known range, for percentiles: int64 [BINS]."""

    BINS = 1 << 16

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.counts = torch.zeros(self.BINS, dtype=torch.int64)

    def update(self, x: torch.Tensor) -> None:
        width = (self.high - self.low) / self.BINS
        if width > 0:
            index = ((x.flatten().double() - self.low) / width).long().clamp_(0, self.BINS - 1)
            self.counts += torch.bincount(index, minlength=self.BINS).cpu()

    def add(self, other: ValueHistogram) -> None:
        if (self.low, self.high) != (other.low, other.high):
            raise ValueError("histograms over different ranges do not add up")
        self.counts += other.counts

    def percentile(self, q: float) -> float:
        """Return the value below which q per cent lie, linear inside a bin."""
        below = torch.cumsum(self.counts, 0).double()
        target = below[-1] * (q / 100)
        if target == 0:
            return self.low if q < 50 else self.high
        bin = int(torch.searchsorted(below, target))
        inside = float((target - (below[bin] - self.counts[bin])) / self.counts[bin])
        return self.low + (self.high - self.low) * (bin + inside) / self.BINS


class NormalisedHistogram:
    """Counts of every channel's normalised values (x - mean) / scale over [-1, 1]: int64 [C, B].

    20 bins per step of the universal set's integer grid (2 where the grid is finer than 1/128),
    so that no bin straddles a possible threshold (a value within rounding of one may fall to its
    other side). A sample whose scale is 0 adds nothing: it has no normalised values.
    """

    def __init__(self, nonnegative: torch.Tensor, denominator: int) -> None:
        self.nonnegative, self.denominator = nonnegative, denominator
        self.bins_per_step = 20 if denominator <= 128 else 2
        channels, bins = len(nonnegative), 2 * denominator * self.bins_per_step
        self.counts = torch.zeros((channels, bins), dtype=torch.int64)

    @property
    def centres(self) -> torch.Tensor:
        """float64 [B], ascending: the middle of every bin."""
        bins = self.counts.shape[1]
        return (torch.arange(bins, dtype=torch.float64) + 0.5) * (2 / bins) - 1

    def update(self, x: torch.Tensor) -> None:
        mean, scale = ops.channel_statistics(x, self.nonnegative.to(x.device))
        ratio = torch.where(scale > 0, self.denominator / scale, torch.zeros_like(scale))
        counts = ops.channel_histogram(x, mean, ratio, self.denominator, self.bins_per_step)
        self.counts += counts.cpu()

    def add(self, other: NormalisedHistogram) -> None:
        if self.denominator != other.denominator or not torch.equal(
            self.nonnegative, other.nonnegative
        ):
            raise ValueError("histograms of values normalised otherwise do not add up")
        self.counts += other.counts
