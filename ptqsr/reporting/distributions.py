"""How what a layer reads is distributed, and where its levels lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ptqsr.points import UniversalSet
from ptqsr.quantizers import ActivationQuantizer, SubsetQuantizer
from ptqsr.reporting.levels import levels_of, normalised
from ptqsr.reporting.walk import Meeting

CHANNELS, SAMPLES, BINS = 12, 8, 64


@dataclass(frozen=True)
class Box:
    """Minimum, quartiles and maximum of a channel of a sample, and the levels that it had."""

    label: str
    five: tuple[float, ...]
    levels: tuple[float, ...]


@dataclass(frozen=True)
class Ridge:
    """Counts of a channel's values over all samples in BINS bins, and its levels there."""

    label: str
    counts: tuple[int, ...]
    levels: tuple[float, ...]


@dataclass(frozen=True)
class Distribution:
    """Of a layer's input in the quantized network, at its first call.

    `channels`: some channels of the first sample, from that of the smallest range to that of the
    largest; `samples`: one of these, number `channel`, in all samples: that whose range changes
    most. `ridges`: those channels over all samples, between `low` and `high`: normalised where the
    quantizer normalises, with the `universal` values that levels were chosen from.
    """

    channels: tuple[Box, ...]
    channel: int
    samples: tuple[Box, ...]
    ridges: tuple[Ridge, ...]
    low: float
    high: float
    universal: tuple[float, ...]


class Distributions:
    """Takes in one sample after the other; SAMPLES of them at most are drawn one by one."""

    def __init__(self) -> None:
        self._layers: dict[str, _Layer] = {}
        self._seen: set[str] = set()

    def begin_sample(self) -> None:
        self._seen.clear()

    def update(self, met: Meeting) -> None:
        if met.name in self._seen:
            return  # a recursive layer: the first call stands for it
        self._seen.add(met.name)
        x = met.came[:1].float()
        if met.name not in self._layers:
            self._layers[met.name] = _Layer(met.layer.quantizer, x)
        self._layers[met.name].update(x)

    def found(self) -> dict[str, Distribution]:
        return {name: layer.found() for name, layer in self._layers.items()}


class _Layer:
    def __init__(self, quantizer: ActivationQuantizer, x: torch.Tensor) -> None:
        self.quantizer = quantizer
        self.channels = _spread((x.amax((0, 2, 3)) - x.amin((0, 2, 3))).cpu().numpy(), CHANNELS)
        self.normalises = normalised(quantizer, x) is not None
        self.low, self.high = -1.0, 1.0
        if not self.normalises:
            shown = [x[:, self.channels].flatten(), levels_of(quantizer, x).flatten()]
            low, high = torch.cat(shown).aminmax()
            self.low, self.high = float(low), float(high)  # levels differ
        self.counts = np.zeros((len(self.channels), BINS), np.int64)
        self.five: list[np.ndarray] = []  # of every sample: [channels, 5]
        self.levels: list[np.ndarray] = []  # of every sample: [channels, L]

    def update(self, x: torch.Tensor) -> None:
        place = normalised(self.quantizer, x) if self.normalises else x
        assert place is not None
        values = place[0, self.channels].flatten(1).double().cpu().numpy()
        self.counts += _histograms(values, self.low, self.high)
        if len(self.five) < SAMPLES:
            pixels = x[0, self.channels].flatten(1).double().cpu()
            quarters = torch.linspace(0, 1, 5, dtype=torch.float64)
            self.five.append(torch.quantile(pixels, quarters, dim=1).T.numpy())
            self.levels.append(levels_of(self.quantizer, x)[self.channels].cpu().numpy())

    def found(self) -> Distribution:
        spans = np.array([five[:, -1] - five[:, 0] for five in self.five])
        least = np.maximum(spans.min(0), 1e-3 * max(spans.max(), 1e-9))
        most = int(np.argmax(spans.max(0) / least))
        universal, points = self._points()
        return Distribution(
            channels=tuple(
                Box(str(channel), tuple(five.tolist()), tuple(levels.tolist()))
                for channel, five, levels in zip(
                    self.channels, self.five[0], self.levels[0], strict=True
                )
            ),
            channel=self.channels[most],
            samples=tuple(
                Box(str(number), tuple(five[most].tolist()), tuple(levels[most].tolist()))
                for number, (five, levels) in enumerate(zip(self.five, self.levels, strict=True), 1)
            ),
            ridges=tuple(
                Ridge(str(channel), tuple(counts.tolist()), tuple(levels.tolist()))
                for channel, counts, levels in zip(self.channels, self.counts, points, strict=True)
            ),
            low=self.low,
            high=self.high,
            universal=universal,
        )

    def _points(self) -> tuple[tuple[float, ...], np.ndarray]:
        """Return the universal values, and each channel's levels in the units of the ridges."""
        parts = [part for part in self.quantizer.parts if isinstance(part, SubsetQuantizer)]
        if not parts:
            return (), self.levels[0]
        points = np.concatenate([part.points.cpu().numpy() for part in parts])[self.channels]
        universal = parts[0].universal_set
        return tuple(universal.values.tolist()), points / universal.denominator


def _histograms(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the counts [C, BINS] of values [C, P]; those outside are in the bins at the ends."""
    places = ((values - low) * (BINS / max(high - low, 1e-30))).clip(0, BINS - 1).astype(np.int64)
    places += BINS * np.arange(len(values))[:, None]
    return np.bincount(places.ravel(), minlength=BINS * len(values)).reshape(-1, BINS)


def _spread(ranges: np.ndarray, count: int) -> list[int]:
    """Return channels from the smallest range to the largest, evenly by rank."""
    order = np.argsort(ranges, kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [int(channel) for channel in order[places]]


@dataclass(frozen=True)
class Usage:
    """How many channels chose each value of a universal set."""

    universal_set: UniversalSet
    counts: dict[float, int]


def usage(quantizers: list[ActivationQuantizer]) -> Usage | None:
    """Return how often values were chosen, of the set that most channels have; None without one."""
    by_set: dict[UniversalSet, list[SubsetQuantizer]] = {}
    for part in dict.fromkeys(part for quantizer in quantizers for part in quantizer.parts):
        if isinstance(part, SubsetQuantizer):
            by_set.setdefault(part.universal_set, []).append(part)
    if not by_set:
        return None
    universal, parts = max(by_set.items(), key=lambda row: sum(len(p.points) for p in row[1]))
    chosen = np.concatenate([part.points.cpu().numpy().ravel() for part in parts])
    counts = {k: int((chosen == k).sum()) for k in universal.integers.tolist()}
    return Usage(universal, {k / universal.denominator: n for k, n in counts.items()})
