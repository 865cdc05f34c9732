"""Calibration and held-out crops from the pictures that users name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ptqsr.errors import PtqsrError
from ptqsr.images import cut, downscale, list_images, sample_photographs, to_tensor, to_uint8
from ptqsr.models import SRNetwork, device_of

HELD_OUT = 16  # crops to measure on


@dataclass(frozen=True)
class Crops:
    """`inputs`: what networks are calibrated on; `held_out`: crops of the same pictures' rest."""

    names: list[str]
    inputs: list[np.ndarray]
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

    def true_pairs(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Return held-out (low, high resolution or None)."""
        if self.low_resolution:
            return [(crop, None) for crop in self.held_out]
        return [downscale(crop, self.scale) for crop in self.held_out]


def make_crops(
    images: Path | None,
    scale: int,
    *,
    low_resolution: bool,
    num_images: int,
    patch_size: int,
    seed: int,
) -> Crops:
    if num_images < 1 or patch_size < 1:
        raise PtqsrError("--num-images and --patch-size must be at least 1")
    paths = sample_photographs() if images is None else list_images(images)
    factor = 1 if low_resolution else scale
    crops, held_out = cut(
        paths, size=patch_size * factor, count=num_images, held_out=HELD_OUT, seed=seed
    )
    inputs = crops if low_resolution else [downscale(crop, scale)[0] for crop in crops]
    names = [path.name for path in paths[:1000]]
    return Crops(names, inputs, held_out, low_resolution, scale)
