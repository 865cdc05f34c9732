"""What many tests share. Everything runs on the CPU, without network, from what the tests make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ptqsr import models

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """The project's pictures and weights, where they are at hand."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared: standard test pictures and the authors' weights")
    return SHARED


@pytest.fixture
def tiny() -> models.SRNetwork:
    """A small EDSR with random weights, always the same."""
    torch.manual_seed(0)
    return models.build("edsr", scale=2, weights=None, blocks=2, width=16)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A uint8 picture [H, W, 3] with smooth parts, edges and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + c) + np.cos(y / 7 - c) + ((x + 2 * y) % 40 > 20) for c in range(3)]
    picture = np.stack(waves, -1) * 40 + 90 + rng.normal(0, 4, (height, width, 3))
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture
def pictures() -> list[np.ndarray]:
    return [photograph(24, 30, seed) for seed in range(3)]
