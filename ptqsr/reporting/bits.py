"""Which bits the patches of pictures chose (CADyQ, Fig. 5)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from statistics import fmean
from typing import NamedTuple

import numpy as np

from ptqsr.errors import PtqsrError
from ptqsr.evaluation import PatchBits, mean_bits, patch_bits, recording_bits
from ptqsr.evaluation.quality import NamedPair, super_resolve_luma
from ptqsr.models import PatchWise, SRNetwork, evaluating

MOST = 4


class Cell(NamedTuple):
    """A part of a picture, in pixels, and the mean of its bits."""

    left: float
    right: float
    top: float
    bottom: float
    bits: float


@dataclass(frozen=True, eq=False)
class BitMap:
    """A picture, the network's input, uint8 [H, W, 3]; its patches' bits and its layers'."""

    name: str
    picture: np.ndarray
    patches: PatchBits
    layers: dict[str, float]

    @property
    def mean(self) -> float:
        """The mean over patches."""
        return fmean(self.patches.means)

    @property
    def cells(self) -> list[Cell]:
        """The patches without their overlaps: each ends where the next one's half begins."""
        height, width = self.picture.shape[:2]
        rows, columns = (
            sorted({corner[axis] for corner in self.patches.corners}) for axis in (0, 1)
        )
        tall, wide = (
            _parts(rows, self.patches.size, height),
            _parts(columns, self.patches.size, width),
        )
        return [
            Cell(*columns_of, *rows_of, bits)
            for (rows_of, columns_of), bits in zip(
                product(tall, wide), self.patches.means, strict=True
            )
        ]


def _parts(starts: list[int], size: int, length: int) -> list[tuple[float, float]]:
    """Return where the parts of an axis begin and end, so that none overlaps."""
    cuts = [(start + before + size) / 2 for before, start in pairwise(starts)]
    return list(pairwise([0.0, *cuts, float(length)]))


def bit_maps(running: SRNetwork, pairs: list[NamedPair]) -> list[BitMap]:
    """Return what a network that chooses its bits chose for the first pictures."""
    maps = []
    by_patches = running if isinstance(running, PatchWise) else None
    for name, lr, _ in pairs[:MOST]:
        with recording_bits(running) as chosen, evaluating(running):
            super_resolve_luma(running, lr, name)
        try:
            patches = patch_bits(lr.shape[0], lr.shape[1], chosen, by_patches)
        except PtqsrError as error:
            raise PtqsrError(f"{name}: {error}") from None
        maps.append(BitMap(name, lr, patches, mean_bits(chosen)))
    return maps
