"""Calibration and held-out crops from the pictures that users name."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ptqsr.errors import PtqsrError
from ptqsr.images import (
    cut,
    cut_held_out,
    downscale,
    list_images,
    sample_photographs,
    to_tensor,
    to_uint8,
)
from ptqsr.models import SRNetwork, device_of

CALIBRATE = 32  # crops
LEARN = 64  # of which methods learn: from fewer, weights fit themselves to these
HELD_OUT = 16  # crops to measure on
FEW = 6  # of these, to measure layer by layer on: the network runs for each layer and bit-width
TO_STOP = 8  # more of them, by which methods that learn stop
SCENES = 8  # pictures; from crops of fewer, learned weights may lose on others

log = logging.getLogger("ptqsr")


@dataclass(frozen=True)
class Crops:
    """`inputs`: what networks are calibrated on; `to_stop`: by what methods that learn stop.

    `held_out`: what is measured on. The last two are of bands that calibration never sees.
    """

    names: list[str]
    inputs: list[np.ndarray]
    to_stop: list[np.ndarray]
    held_out: list[np.ndarray]
    low_resolution: bool
    scale: int

    def pairs(self, network: SRNetwork) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return held-out (low, high resolution); in place of the latter the network's output,
        where there are no true pictures.
        """
        if not self.low_resolution:
            return [downscale(crop, self.scale) for crop in self.held_out]

        def reference(crop: np.ndarray) -> np.ndarray:
            made = to_uint8(network(to_tensor(crop).to(device_of(network))))[0]
            return made.permute(1, 2, 0).cpu().numpy()

        with torch.no_grad():
            return [(crop, reference(crop)) for crop in self.held_out]

    def some_pairs(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Return held-out (low, high resolution or None): a few, from all of the pictures."""
        count = len(self.held_out)
        some = (
            [self.held_out[i * count // FEW] for i in range(FEW)] if count > FEW else self.held_out
        )
        if self.low_resolution:
            return [(crop, None) for crop in some]
        return [downscale(crop, self.scale) for crop in some]


def make_crops(
    images: Path | None,
    scale: int,
    *,
    low_resolution: bool,
    num_images: int | None,
    patch_size: int,
    seed: int,
    learns: bool = False,
) -> Crops:
    """Return crops of a folder's pictures, by default of scikit-learn's.

    `num_images`: by default CALIBRATE, or LEARN for a method that learns, which gets some to stop
    by, too.
    """
    if num_images is None:
        num_images = LEARN if learns else CALIBRATE
    if num_images < 1 or patch_size < 1:
        raise PtqsrError("--num-images and --patch-size must be at least 1")
    paths = sample_photographs() if images is None else list_images(images)
    factor = 1 if low_resolution else scale
    size = patch_size * factor
    crops, held_out = cut(paths, size=size, count=num_images, held_out=HELD_OUT, seed=seed)
    if learns and len(paths) < SCENES:
        log.warning(
            "learning from %d picture(s): weights fit themselves to so few; give --images a folder "
            "of more",
            len(paths),
        )
    apart = _to_stop(paths, size, seed) if learns else []
    inputs, learning = (
        some if low_resolution else [downscale(crop, scale)[0] for crop in some]
        for some in (crops, apart)
    )
    names = [path.name for path in paths[:1000]]
    return Crops(names, inputs, learning, held_out, low_resolution, scale)


def _to_stop(paths: list[Path], size: int, seed: int) -> list[np.ndarray]:
    crops = cut_held_out(paths, size=size, count=TO_STOP, seed=seed)
    if not crops:
        log.warning(
            "%s: too small to hold crops out; blocks stop by one in four of the calibration crops",
            paths[0].parent,
        )
    return crops
