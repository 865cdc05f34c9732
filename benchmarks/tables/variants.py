"""DFSQ with parts taken away, as its Table 1 and Fig. 6 do: methods that `calibrate` can run.

The product has none of these: they exist to be measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptqsr import ops
from ptqsr.calibration import ChannelRanges, NormalisedHistogram, Part, Statistics
from ptqsr.methods import METHODS
from ptqsr.methods.dfsq import DFSQ
from ptqsr.points import select_channels
from ptqsr.quantizers import SubsetQuantizer

NAME = "dfsq, a variant"

# Of a channel's largest magnitude.
CLIPPED = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
# {0, 1, 1/2, 1/16} and the one word that differs: what dfsq-107 is made of.
WORD, OTHER = (0, 1, 2**-1, 2**-4), (0, 2**-2, 2**-4, 2**-5)


@dataclass(frozen=True)
class Variant:
    """`points`, `normalisation`: whose they are, a channel's or the whole tensor's; normalisation
    may be "none": values are taken as they are, and beyond [-1, 1] clipped. `mean`: subtracted in
    channels that are never negative, too. `words`: a universal set, or the name of a preset.
    `clipped`: a part of every channel's largest magnitude is its scale, that which loses least.
    `weighted`: in the loss that points lose least of, a sample counts as its scale squared: its
    error in the network, where otherwise that of the normalised values counts.
    """

    points: str = "channel"
    normalisation: str = "channel"
    mean: bool = False
    words: str | tuple[tuple[float, ...], ...] = "dfsq-107"
    clipped: bool = False
    weighted: bool = False

    @contextmanager
    def registered(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Give the options of Config that make `calibrate` run this variant."""
        universal_set = self.words
        if not isinstance(universal_set, str):
            universal_set = str(folder / "words.json")
            Path(universal_set).write_text(json.dumps(self.words))
        by_channel = self.points == self.normalisation == "channel"
        whole = by_channel and not self.clipped and not self.weighted
        METHODS[NAME] = type(NAME, (_VariantDFSQ,), {"variant": self, "per_channel": whole})
        try:
            yield {"method": NAME, "universal_set": universal_set}
        finally:
            del METHODS[NAME]


def normalise(
    x: torch.Tensor, nonnegative: torch.Tensor, kind: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (mean, scale), float32 [N, C], of every sample of x [N, C, H, W]."""
    if kind == "none":
        return torch.zeros(x.shape[:2]), torch.ones(x.shape[:2])
    if kind == "channel":
        return ops.channel_statistics(x, nonnegative)
    mean, scale = ops.channel_statistics(x.flatten(1)[:, None, None], nonnegative.all().view(1))
    return mean.expand(x.shape[:2]).contiguous(), scale.expand(x.shape[:2]).contiguous()


class _Histogram(NormalisedHistogram):
    """Of values that are normalised in another way."""

    def __init__(self, nonnegative: torch.Tensor, denominator: int, kind: str) -> None:
        super().__init__(nonnegative, denominator)
        self.kind = kind

    def update(self, x: torch.Tensor) -> None:
        mean, scale = normalise(x, self.nonnegative, self.kind)
        ratio = torch.where(scale > 0, self.denominator / scale, torch.zeros_like(scale))
        self.counts += ops.channel_histogram(x, mean, ratio, self.denominator, self.bins_per_step)


class _WeightedHistogram(NormalisedHistogram):
    """Of samples that count as the square of their scale."""

    def __init__(self, nonnegative: torch.Tensor, denominator: int) -> None:
        super().__init__(nonnegative, denominator)
        self.counts = self.counts.double()

    def update(self, x: torch.Tensor) -> None:
        for sample in x.split(1):
            _, scale = ops.channel_statistics(sample, self.nonnegative)
            of_sample = NormalisedHistogram(self.nonnegative, self.denominator)
            of_sample.update(sample)
            self.counts += of_sample.counts * scale[0, :, None].double().square()


class _Quantizer(SubsetQuantizer):
    """Of values that are normalised in another way; those beyond [-1, 1] get the outermost point.

    For a tensor as it is read: a concatenation's parts have no mean and scale of their own.
    """

    def __init__(self, of: SubsetQuantizer, kind: str, part: torch.Tensor | None = None) -> None:
        super().__init__(of.points, of.nonnegative, universal_set=of.universal_set, bits=of.bits)
        self.normalisation = kind
        self.part = torch.ones(len(of.points)) if part is None else part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, scale = normalise(x, self.nonnegative, self.normalisation)
        d = self.universal_set.denominator
        return ops.quantize_given(x, self.points, d, mean, scale * self.part)


class _VariantDFSQ(DFSQ):
    variant: Variant

    def statistics(self, ranges: ChannelRanges) -> NormalisedHistogram | None:
        if self.takes_all:
            return None
        kind, d = self.variant.normalisation, self.universal_set.denominator
        if self.variant.weighted:
            return _WeightedHistogram(self._without_mean(ranges), d)
        return _Histogram(self._without_mean(ranges), d, kind)

    def quantizer(
        self, part: Part, ranges: ChannelRanges, statistics: Statistics | None
    ) -> SubsetQuantizer:
        if self.variant.points == "tensor" and isinstance(statistics, NormalisedHistogram):
            # Every channel the same histogram, hence the same points.
            statistics.counts[:] = statistics.counts.sum(0)
        made = super().quantizer(part, ranges, statistics)
        made.nonnegative = self._without_mean(ranges)
        if self.variant.clipped and isinstance(statistics, NormalisedHistogram):
            return self._clipped(made, statistics)
        kind = self.variant.normalisation
        return made if kind == "channel" else _Quantizer(made, kind)

    def _clipped(self, made: SubsetQuantizer, statistics: NormalisedHistogram) -> _Quantizer:
        """Return the quantizer whose channels lose least over the parts of their maxima."""
        weights, positions = statistics.counts.numpy(), statistics.centres.numpy()
        least, part = np.full(len(weights), np.inf), torch.ones(len(weights))
        for tried in CLIPPED:
            index, loss = select_channels(
                weights,
                positions / tried,
                self.universal_set,
                self.rule.act_bits,
                method=self.config.selection,
                seed=self.config.seed,
            )
            better = loss * tried**2 < least
            least = np.where(better, loss * tried**2, least)
            part[better] = tried
            made.points[better] = torch.from_numpy(self.universal_set.integers[index[better]]).int()
        return _Quantizer(made, "channel", part)

    def _without_mean(self, ranges: ChannelRanges) -> torch.Tensor:
        """Return which channels keep mean 0."""
        flags = ranges.nonnegative
        return torch.zeros_like(flags) if self.variant.mean else flags


def words(count: int) -> tuple[tuple[float, ...], ...]:
    """Return the first words of dfsq-107, or all four and more like them."""
    return (WORD, OTHER, *(WORD,) * (count - 2))
