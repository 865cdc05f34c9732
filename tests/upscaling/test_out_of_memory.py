"""Where memory runs out, smaller tiles are tried, and that is said."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from helpers import photograph
from torch import nn

from ptqsr import PtqsrError, models
from ptqsr.images import Picture
from ptqsr.models import SRNetwork
from ptqsr.upscaling import Planner, run, upscale, upscale_fitting

from .networks import levels_apart, lively

pytestmark = pytest.mark.usefixtures("one_thread")

PICTURE = photograph(90, 130)
CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")
GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Starved(SRNetwork):
    """Lets either half of a network fail for more than `most` input pixels."""

    architecture = "starved"
    quantized_layers = ()

    def __init__(self, network: SRNetwork, most: int, error: Exception = CPU) -> None:
        super().__init__(scale=network.scale)
        self.network, self.most, self.error = network, most, error
        self.given: list[int] = []

    def _check(self, x: torch.Tensor) -> None:
        if x.device.type != "meta":
            self.given.append(x.shape[2] * x.shape[3])
            if self.given[-1] > self.most:
                raise self.error

    def features(self, x: torch.Tensor) -> torch.Tensor:
        self._check(x)
        return self.network.features(x)

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        self._check(x)
        return self.network.reconstruct(x, features)


@pytest.mark.parametrize("error", [CPU, GPU, MemoryError()], ids=lambda e: type(e).__name__)
def test_smaller_tiles_are_as_exact(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    expected = upscale(lively("edsr", 2), PICTURE)
    made = upscale(Starved(lively("edsr", 2), 90 * 90, error), PICTURE)
    assert levels_apart(made, expected).max() <= 1
    lines = [record.getMessage() for record in caplog.records]
    assert lines and all(line.startswith("upscale: out of memory by ") for line in lines)
    assert "the body on the whole picture" in lines[0] and "; once more by tiles of " in lines[-1]


def test_a_given_tile_is_made_smaller(caplog: pytest.LogCaptureFixture) -> None:
    network = Starved(lively("edsr", 2), 70 * 90)
    planner = Planner(network, tile=100)
    made, plan = upscale_fitting(network, Picture(PICTURE), planner, "a.png")
    assert plan.tile == 64 and plan.exact and max(network.given) > 70 * 90
    assert np.array_equal(made.rgb, run(network, PICTURE, plan))
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_what_did_not_fit_is_not_tried_again() -> None:
    """The next picture of that size begins with the plan that did; a small one is as before."""
    network = Starved(lively("edsr", 2), 90 * 90)
    planner = Planner(network)
    first = planner.plan(20, 20)
    _, plan = upscale_fitting(network, Picture(PICTURE), planner, "a.png")
    network.given.clear()
    _, again = upscale_fitting(network, Picture(PICTURE), planner, "b.png")
    assert again == plan and max(network.given) <= 90 * 90
    assert planner.plan(20, 20) == first


def test_each_attempt_takes_less() -> None:
    network = lively("edsr", 2)
    planner = Planner(network)
    plan = planner.plan(500, 700)
    peaks = [plan.peak_bytes - planner.in_use]  # type: ignore[operator]
    while (smaller := planner.smaller(plan, 500, 700)) is not None:
        plan = smaller
        peaks.append(plan.peak_bytes - planner.in_use)  # type: ignore[operator]
    assert len(peaks) > 3 and plan.tile == 32
    assert all(b <= 0.9 * a for a, b in pairwise(peaks))
    # A picture for which nothing fits that is known to: what takes least.
    assert planner.plan(500, 700).tile == 32


@pytest.mark.parametrize("way", ["whole", "patches", "opaque", "limit"])
def test_where_nothing_is_smaller(way: str) -> None:
    """The error stays what it was."""
    network: SRNetwork = Starved(lively("edsr", 2), 10)
    if way == "patches":
        network = models.PatchWise(network, patch=32)
    if way == "opaque":
        network = Starved(models.wrap(Opaque(), scale=1), 10)
    planner = Planner(network, memory="9GB" if way == "limit" else None)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        upscale_fitting(network, Picture(PICTURE), planner, "a.png")


def test_another_mistake(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError, match="another mistake"):
        upscale(Starved(lively("edsr", 2), 10, RuntimeError("another mistake")), PICTURE)
    assert not caplog.records


class Opaque(nn.Module):
    """Does not run without values, so that its tiles are not known."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float(x.max())


def test_a_limit_stays_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran out within it is tried with less; plans beyond it stay refused."""
    monkeypatch.setattr("ptqsr.upscaling.plan._in_use", lambda device: 0)
    network = lively("edsr", 2)
    planner = Planner(network, memory=12_000_000)
    plan = planner.plan(90, 130)
    smaller: Any = planner.smaller(plan, 90, 130)
    assert smaller.peak_bytes <= 0.9 * plan.peak_bytes <= 12_000_000  # type: ignore[operator]
    with pytest.raises(PtqsrError, match="more than the limit"):
        planner.plan(4000, 4000)
