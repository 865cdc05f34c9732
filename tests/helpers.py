"""Pictures that tests make."""

from __future__ import annotations

import numpy as np


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A uint8 picture [H, W, 3] with smooth parts, edges and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + c) + np.cos(y / 7 - c) + ((x + 2 * y) % 40 > 20) for c in range(3)]
    picture = np.stack(waves, -1) * 40 + 90 + rng.normal(0, 4, (height, width, 3))
    return picture.clip(0, 255).astype(np.uint8)
