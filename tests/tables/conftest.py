"""A toy in the tables' places of networks and pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import photograph

from ptqsr import models
from ptqsr.images import downscale
from ptqsr.models import SRNetwork

ROOT = Path(__file__).resolve().parents[2]
# Behind everything: where the package is installed, the installed one is tested.
sys.path += [str(ROOT), str(ROOT / "tools")]


def toy_edsr() -> SRNetwork:
    """Smaller than others' `tiny_edsr`: tables quantize it over and over."""
    torch.manual_seed(0)
    return models.build("edsr", scale=2, weights=None, blocks=1, width=8)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> str:
    """The name of the only network that there is, a tiny one; a set is one small picture."""
    from benchmarks.tables import networks

    class Toy(networks.Network):
        def missing(self, weights: Path) -> None:
            return None

        def build(self, weights: Path) -> SRNetwork:
            return toy_edsr()

        def crops(self, data: Path, count: int = networks.CROPS) -> list[np.ndarray]:
            return [photograph(16, 16, seed) for seed in range(count // 8)]

        def held_out(self, data: Path) -> list[np.ndarray]:
            return [photograph(16, 16, 2)]

    def pairs(data: Path, name: str, scale: int) -> list:
        return [downscale(photograph(24, 28, len(name)), scale)]

    monkeypatch.setattr(networks, "NETWORKS", (Toy("toy", "edsr", 2),))
    monkeypatch.setattr(networks, "pairs", pairs)
    return "toy"
