"""The pictures of a report: pairs to measure on, and crops of them to look into layers with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptqsr.errors import PtqsrError
from ptqsr.evaluation import find_pairs, read_pairs
from ptqsr.evaluation.quality import NamedPair
from ptqsr.images import downscale, held_out_band, read_rgb, sample_photographs

# Of the crops that `ptqsr calibrate` takes by default, in input pixels.
CALIBRATION_CROP = 48
LEAST = 3  # input pixels of a crop: something is left within the border


@dataclass(frozen=True, eq=False)
class Pictures:
    """`measured`: what PSNR, and crops for layers, are taken of; `shown`: what is looked at.

    `about` says in words what is measured on.
    """

    measured: list[NamedPair]
    shown: list[NamedPair]
    about: str


def bundled_pictures(scale: int) -> Pictures:
    """Return scikit-learn's photographs, measured where `ptqsr calibrate` never calibrates."""
    measured, shown = [], []
    for path in sample_photographs():
        band = held_out_band(path, CALIBRATION_CROP * scale)
        assert band is not None  # they are large enough at every scale
        measured.append((path.stem, *downscale(band, scale)))
        shown.append((path.stem, *downscale(read_rgb(path), scale)))
    about = (
        "the parts of scikit-learn's two photographs that ptqsr calibrate keeps apart by default"
    )
    return Pictures(measured, shown, about)


def pictures_in(folder: Path, scale: int, most: int) -> Pictures:
    """Return the first pictures in a folder, `most` of them at most."""
    found = find_pairs(folder, scale)
    pairs = list(read_pairs(found[:most], scale))
    name = folder.resolve().name
    few = f"the first {len(pairs)} of {len(found)} pictures in {name}"
    whole = f"{len(pairs)} picture{'s' * (len(pairs) > 1)} in {name}"
    return Pictures(pairs, pairs, few if len(pairs) < len(found) else whole)


def crops_of(
    pairs: list[NamedPair], scale: int, *, size: int, count: int, seed: int
) -> list[NamedPair]:
    """Return crops of size x size input pixels at random places, of every picture in turn.

    Smaller where a picture is; all are of one size.
    """
    if size < LEAST:
        raise PtqsrError(f"crop size {size}: too small to look into layers with; give {LEAST}")
    least, smallest = min((min(lr.shape[:2]), name) for name, lr, _ in pairs)
    if least < LEAST:
        raise PtqsrError(f"{smallest}: too small to look into layers with; give larger pictures")
    size = min(size, least)
    rng = np.random.default_rng(seed)
    crops = []
    for number in range(count):
        name, lr, hr = pairs[number % len(pairs)]
        top, left = (int(rng.integers(length - size + 1)) for length in lr.shape[:2])
        rows, columns = slice(top, top + size), slice(left, left + size)
        tall = slice(top * scale, (top + size) * scale)
        wide = slice(left * scale, (left + size) * scale)
        crops.append((name, lr[rows, columns], hr[tall, wide]))
    return crops
