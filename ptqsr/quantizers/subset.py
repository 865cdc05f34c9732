"""DFSQ's activation quantizer: points of a universal set, per-sample channel normalisation."""

from __future__ import annotations

from typing import Any

import torch

from ptqsr import ops
from ptqsr.quantizers.base import ActivationQuantizer


class SubsetQuantizer(ActivationQuantizer):
    """Sends (x - mean) / scale to the nearest of its channel's points and back (DFSQ, Eqs. 1-4).

    `points`: int32 [C, L], ascending, in units of 1 / `denominator`. `nonnegative`: bool [C], the
    channels that keep mean 0. Mean and scale are those of each sample and channel as it comes.
    """

    kind = "subset"
    points: torch.Tensor
    nonnegative: torch.Tensor

    def __init__(
        self, points: torch.Tensor, nonnegative: torch.Tensor, *, denominator: int, bits: int
    ) -> None:
        super().__init__()
        self.denominator, self.bits = denominator, bits
        self.register_buffer("points", points)
        self.register_buffer("nonnegative", nonnegative)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ops.subset_fake_quant(x, self.points, self.nonnegative, self.denominator)[0]

    def settings(self) -> dict[str, Any]:
        return {"denominator": self.denominator, "bits": self.bits}

    def storage_bits(self) -> int:
        # A bit a flag; points in the smallest integers that hold them.
        width = next(bits for bits in (8, 16, 32) if self.denominator < 1 << (bits - 1))
        return self.points.numel() * width + self.nonnegative.numel()

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, torch.Tensor]) -> SubsetQuantizer:
        return cls(tensors["points"], tensors["nonnegative"], **settings)
