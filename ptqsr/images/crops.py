"""Crops for calibration, and others, from parts that calibration never sees, to measure on."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ptqsr.errors import PtqsrError
from ptqsr.images.read import read_rgb, read_size

log = logging.getLogger("ptqsr")


def cut(
    paths: list[Path], *, size: int, count: int, held_out: int, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return (calibration, held-out) crops, uint8 [size, size, 3], of pictures drawn at random.

    Each picture gives its share in turn. Held-out crops come from a band at the end of its longer
    side (a quarter of it, at least one crop), calibration crops from the rest; a picture too small
    for both gives calibration crops only. Pictures smaller than a crop are passed over with a
    warning. Neither list depends on how long the other is. Raises PtqsrError where all are.
    """
    rng = np.random.default_rng(seed)
    order = [paths[i] for i in rng.permutation(len(paths))]
    chosen = _large_enough(order, size, max(count, held_out), warn=True)
    for_calibration: list[np.ndarray] = []
    for_measuring: list[np.ndarray] = []
    # A generator and a list of pictures each: how many crops calibrate changes none to measure on.
    jobs = (
        (for_calibration, count, rng),
        (for_measuring, held_out, np.random.default_rng((seed, 1))),
    )
    for number, path in enumerate(chosen):
        regions = _divide(read_rgb(path), size)
        for region, (crops, wanted, generator) in zip(regions, jobs, strict=True):
            if region is not None:
                share = _share(number, wanted, len(chosen))
                crops += [_crop(region, size, generator) for _ in range(share)]
    return for_calibration, for_measuring


def held_out_band(path: Path, size: int) -> np.ndarray | None:
    """Return the band of a picture that calibration on crops of `size` never sees, or None.

    uint8 [H, W, 3]: where `cut` takes its held-out crops.
    """
    return _divide(read_rgb(path), size)[1]


def cut_held_out(paths: list[Path], *, size: int, count: int, seed: int) -> list[np.ndarray]:
    """Return other crops from the bands that `cut` holds out, for methods to stop by.

    They come from the same pictures, and may overlap those to measure on. Empty where all are too
    small. Raises PtqsrError as `cut`.
    """
    order = [paths[i] for i in np.random.default_rng(seed).permutation(len(paths))]
    chosen = _large_enough(order, size, count, warn=False)
    rng = np.random.default_rng((seed, 2))
    crops: list[np.ndarray] = []
    for number, path in enumerate(chosen):
        _, band = _divide(read_rgb(path), size)
        if band is not None:
            crops += [_crop(band, size, rng) for _ in range(_share(number, count, len(chosen)))]
    return crops


def _share(number: int, wanted: int, pictures: int) -> int:
    """Return how many of the wanted crops a picture gives."""
    return len(range(number, wanted, min(wanted, pictures))) if wanted else 0


def _large_enough(paths: list[Path], size: int, wanted: int, *, warn: bool) -> list[Path]:
    """Return the first `wanted` pictures that hold a crop."""
    chosen: list[Path] = []
    small: list[Path] = []
    for path in paths:
        if len(chosen) == wanted:
            break
        (small if min(read_size(path)) < size else chosen).append(path)
    if small:
        what = f"{small[0]}" + (f" and {len(small) - 1} more" if len(small) > 1 else "")
        message = f"{what}: smaller than a crop of {size}x{size} pixels"
        if not chosen:
            raise PtqsrError(f"{message}; give larger pictures or lower --patch-size")
        if warn:
            log.warning("%s; passed over", message)
    return chosen


def _divide(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the part of a picture to calibrate on, and the part to measure on."""
    height, width = image.shape[:2]
    if max(height, width) < 2 * size:
        return image, None
    wide = image if width >= height else image.swapaxes(0, 1)
    border = wide.shape[1] - max(size, wide.shape[1] // 4)
    rest, band = wide[:, :border], wide[:, border:]
    return (rest, band) if width >= height else (rest.swapaxes(0, 1), band.swapaxes(0, 1))


def _crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    y, x = (int(rng.integers(length - size + 1)) for length in image.shape[:2])
    # A copy: a view would keep the whole picture in memory.
    return image[y : y + size, x : x + size].copy()
