"""DFSQ's activation quantizer: points of a universal set, per-sample channel normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ptqsr import ops
from ptqsr.config import MAX_BITS, MIN_BITS
from ptqsr.points import UniversalSet
from ptqsr.quantizers.base import ActivationQuantizer


class SubsetQuantizer(ActivationQuantizer):
    """Sends (x - mean) / scale to the nearest of its channel's points and back (DFSQ, Eqs. 1-4).

    `points`: int32 [C, L], ascending integers of the universal set. `nonnegative`: bool [C], the
    channels that keep mean 0. Mean and scale are those of each sample and channel as it comes.
    """

    kind = "subset"
    points: torch.Tensor
    nonnegative: torch.Tensor

    def __init__(
        self,
        points: torch.Tensor,
        nonnegative: torch.Tensor,
        *,
        universal_set: UniversalSet,
        bits: int,
    ) -> None:
        super().__init__()
        self.universal_set, self.bits = universal_set, bits
        self.register_buffer("points", points)
        self.register_buffer("nonnegative", nonnegative)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d = self.universal_set.denominator
        return ops.subset_fake_quant(x, self.points, self.nonnegative, d)[0]

    @classmethod
    def join(cls, parts: Sequence[ActivationQuantizer]) -> JoinedSubsetQuantizer:
        return JoinedSubsetQuantizer([part for part in parts if isinstance(part, cls)])

    def check(self, channels: int) -> None:
        points, flags, d = self.points, self.nonnegative, self.universal_set.denominator
        if not isinstance(self.bits, int) or not MIN_BITS <= self.bits <= MAX_BITS:
            raise ValueError(f"{self.bits} bits")
        if points.dtype != torch.int32 or points.ndim != 2 or flags.dtype != torch.bool:
            raise ValueError(f"points are {points.dtype} {tuple(points.shape)}")
        if len(points) != channels or flags.shape != (channels,):
            raise ValueError(f"points of {len(points)} channels for {channels}")
        if points.shape[1] != self.universal_set.count(self.bits):
            raise ValueError(f"{points.shape[1]} points a channel for {self.bits} bits")
        # Not abs(): of the least int32 it is negative.
        outside = (points < -d) | (points > d)
        if outside.any() or (points.diff(dim=1) <= 0).any():
            raise ValueError(f"points that are not ascending from -{d} to {d}")

    def settings(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "universal_set": {"name": self.universal_set.name, "words": self.universal_set.words},
        }

    def storage_bits(self) -> int:
        # A bit a flag; points in the smallest integers that hold them.
        width = next(
            bits for bits in (8, 16, 32) if self.universal_set.denominator < 1 << (bits - 1)
        )
        return self.points.numel() * width + self.nonnegative.numel()

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, torch.Tensor]) -> SubsetQuantizer:
        name, words = settings["universal_set"]["name"], settings["universal_set"]["words"]
        universal_set = _universal_set(name, words and tuple(map(tuple, words)))
        points, nonnegative = tensors["points"], tensors["nonnegative"]
        return cls(points, nonnegative, universal_set=universal_set, bits=settings["bits"])


@lru_cache(maxsize=64)
def _universal_set(name: str, words: tuple[tuple[float, ...], ...] | None) -> UniversalSet:
    """Return a set once for all layers that have it: some take a second to enumerate."""
    if not isinstance(name, str):
        raise TypeError(f"universal set {name!r}")
    return UniversalSet.preset(name) if words is None else UniversalSet.from_words(words, name=name)


class JoinedSubsetQuantizer(ActivationQuantizer):
    """Of a concatenation: the quantizers of its parts, which others that read a part share."""

    kind = "subset, joined"

    def __init__(self, parts: Sequence[SubsetQuantizer]) -> None:
        super().__init__()
        self.bits = parts[0].bits
        self._parts = nn.ModuleList(parts)

    @property
    def parts(self) -> list[ActivationQuantizer]:
        return list(self._parts)  # type: ignore[arg-type]

    def check(self, channels: int) -> None:
        sizes = [len(part.points) for part in self._subsets]
        for part, size in zip(self._subsets, sizes, strict=True):
            part.check(size)
        kinds = {(part.universal_set, part.bits) for part in self._subsets}
        if sum(sizes) != channels or len(kinds) > 1:
            raise ValueError(f"parts of {sizes} channels, {len(kinds)} kinds, for {channels}")

    @property
    def _subsets(self) -> list[SubsetQuantizer]:
        return [part for part in self._parts if isinstance(part, SubsetQuantizer)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # One operation: every channel is normalised for itself.
        parts = self._subsets
        points = torch.cat([part.points for part in parts])
        nonnegative = torch.cat([part.nonnegative for part in parts])
        d = parts[0].universal_set.denominator
        return ops.subset_fake_quant(x, points, nonnegative, d)[0]
