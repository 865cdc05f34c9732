"""DFSQ's activation quantizer: points of a universal set, per-sample channel normalisation."""

from __future__ import annotations

from typing import Any

import torch

from ptqsr import ops
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
        universal_set = UniversalSet(name, words and tuple(map(tuple, words)))
        points, nonnegative = tensors["points"], tensors["nonnegative"]
        return cls(points, nonnegative, universal_set=universal_set, bits=settings["bits"])
