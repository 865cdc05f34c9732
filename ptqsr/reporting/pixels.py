"""Pictures inside of the page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

# From nothing to much, in equal steps of lightness (after matplotlib's inferno).
HEAT = (
    (0, 0, 4),
    (40, 11, 84),
    (101, 21, 110),
    (159, 42, 99),
    (212, 72, 66),
    (245, 125, 21),
    (250, 193, 39),
    (252, 255, 164),
)


def data_uri(picture: np.ndarray) -> str:
    """Return a uint8 picture [H, W, 3] as a lossless WebP that needs no file."""
    held = io.BytesIO()
    # 4 % more bytes than with the most usual effort, in a quarter of the time.
    Image.fromarray(np.ascontiguousarray(picture)).save(
        held, "WEBP", lossless=True, quality=30, method=2
    )
    return f"data:image/webp;base64,{base64.b64encode(held.getvalue()).decode()}"


def heat(values: np.ndarray, most: float) -> np.ndarray:
    """Return [H, W] in the colours from 0 to `most`, uint8 [H, W, 3]."""
    stops = np.linspace(0, 1, len(HEAT))
    shares = np.clip(values / most, 0, 1)
    planes = [np.interp(shares, stops, [colour[i] for colour in HEAT]) for i in range(3)]
    return np.stack(planes, -1).round().astype(np.uint8)


def gradient() -> str:
    """Return the colours as CSS, from left to right."""
    return f"linear-gradient(to right, {', '.join(f'rgb{colour}' for colour in HEAT)})"
