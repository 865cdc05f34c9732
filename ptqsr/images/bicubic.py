"""Bicubic resizing that agrees with the MATLAB imresize that made the field's LR pictures.

Those files (Set5, Set14, BSD100, DIV2K's bicubic track) were made when imresize still repeated the
border pixel; today's MATLAB mirrors the border, which differs from them by up to 7 grey levels in
the outermost LR pixels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@lru_cache(maxsize=64)
def _taps(length: int, out_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the input index and weight of every tap, both [taps, out_length].

    Shrinking widens the kernel by the factor (antialiasing); the border pixel is repeated.
    """
    scale = out_length / length
    stretch = max(1.0, 1 / scale)
    centre = (np.arange(out_length) + 0.5) / scale - 0.5
    count = int(np.ceil(4 * stretch)) + 2
    index = np.floor(centre - 2 * stretch).astype(np.int64) + np.arange(count)[:, None]
    weight = _cubic((centre - index) / stretch)
    weight /= weight.sum(axis=0)
    used = np.any(weight != 0, axis=1)
    return np.clip(index[used], 0, length - 1), weight[used]


def _resize_rows(image: np.ndarray, out_length: int) -> np.ndarray:
    """Resize the first axis of a uint8 array and round to 8 bits."""
    index, weight = _taps(image.shape[0], out_length)
    shape = (-1,) + (1,) * (image.ndim - 1)
    total = np.zeros((out_length, *image.shape[1:]))
    for i, w in zip(index, weight, strict=True):
        total += image[i] * w.reshape(shape)
    # MATLAB rounds half away from zero; the clip makes every value non-negative first.
    return np.floor(np.clip(total, 0, 255) + 0.5).astype(np.uint8)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a uint8 picture [H, W, C] resized to [height, width, C] by bicubic interpolation.

    One axis at a time, the one that shrinks most first (rows where equal), rounded to 8 bits in
    between, as imresize does.
    """
    rows_first = height / image.shape[0] <= width / image.shape[1]
    for rows in (rows_first, not rows_first):
        if rows:
            image = _resize_rows(image, height)
        else:
            image = _resize_rows(image.swapaxes(0, 1), width).swapaxes(0, 1)
    return np.ascontiguousarray(image)


def downscale(image: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (LR, HR): HR cut at the right and bottom to a multiple of the scale, and its LR."""
    height, width = image.shape[0] // scale, image.shape[1] // scale
    image = image[: height * scale, : width * scale]
    return resize(image, height, width), image


def upscale(image: np.ndarray, scale: int) -> np.ndarray:
    """Return a uint8 picture [H, W, C] enlarged by bicubic interpolation."""
    return resize(image, image.shape[0] * scale, image.shape[1] * scale)
