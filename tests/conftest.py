"""What many tests share. Everything runs on the CPU, without network, from what the tests make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import photograph

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


@pytest.fixture
def pictures() -> list[np.ndarray]:
    return [photograph(24, 30, seed) for seed in range(3)]
