"""Deployed networks through the planner: their operations are seen for what they are."""

from __future__ import annotations

import pytest
from helpers import photograph

import ptqsr
from ptqsr import Config
from ptqsr.models import SRNetwork
from ptqsr.upscaling import Planner, upscale

from .networks import VARIANTS, levels_apart, lively

pytestmark = pytest.mark.usefixtures("one_thread")
CROPS = [photograph(20, 22, seed) for seed in range(2)]


def test_statistics_of_the_whole_picture_are_seen(quantized: SRNetwork) -> None:
    ours = ptqsr.deploy(quantized)
    plan, expected = (Planner(net, tile=24).plan(300, 400) for net in (ours, quantized))
    assert (plan.tile, plan.margin, plan.whole_features, plan.exact) == (24, 2, True, True)
    assert (expected.tile, expected.margin, expected.whole_features) == (24, 2, True)
    assert not Planner(ours, tile=24, statistics="tile").plan(300, 400).exact
    image = photograph(40, 50, 3)
    whole, tiles = upscale(ours, image), upscale(ours, image, tile=16)
    assert whole.shape == (80, 100, 3) and levels_apart(whole, tiles).max() <= 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_static_codes_are_local(variant: str) -> None:
    """Fused or not, as far as the fake-quantized network looks."""
    fake = ptqsr.calibrate(lively(variant, 2), CROPS, Config(method="minmax", bits=8))
    ours = ptqsr.deploy(fake)
    plan, expected = (Planner(net, tile=32).plan(300, 400) for net in (ours, fake))
    assert (plan.margin, plan.whole_features) == (expected.margin, expected.whole_features)
    assert plan.whole_features == (variant == "imdn")  # its attention sees the whole picture


def test_static_network_by_tiles() -> None:
    fake = ptqsr.calibrate(lively("edsr", 2), CROPS, Config(method="minmax", bits=8))
    ours = ptqsr.deploy(fake)
    image = photograph(70, 60, 3)
    seen: list[tuple[int, int]] = []
    progress = lambda done, total: seen.append((done, total))  # noqa: E731
    whole, tiles = upscale(ours, image), upscale(ours, image, tile=32, progress=progress)
    assert levels_apart(whole, tiles).max() <= 2 and levels_apart(whole, tiles).mean() < 0.01
    assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)
