"""Which way a picture goes: whole or in tiles, as asked or as the memory limit allows."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import photograph, tiny_edsr
from torch import nn

from ptqsr import PtqsrError, models
from ptqsr.models import SRNetwork
from ptqsr.upscaling import Plan, Planner, upscale
from ptqsr.upscaling.plan import BYTES_PER_OUTPUT_PIXEL

from .networks import lively

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def nothing_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has loaded nothing: estimates are of the picture alone."""
    monkeypatch.setattr("ptqsr.upscaling.plan._in_use", lambda device: 0)


# --- without a limit ---


def test_default_keeps_the_body_whole() -> None:
    plan = Planner(tiny_edsr()).plan(300, 400)
    assert (plan.tile, plan.margin, plan.whole_features, plan.exact) == (128, 2, True, True)
    assert plan.convolutions == 6
    assert "body on the whole picture, the rest in tiles of 128" in str(plan)


@pytest.mark.usefixtures("nothing_in_use")
def test_tile_of_a_local_network() -> None:
    plan = Planner(tiny_edsr(), tile=24).plan(300, 400)
    assert (plan.tile, plan.margin, plan.whole_features, plan.exact) == (24, 8, False, True)
    assert "tiles of 24, 8 pixels of overlap, exact" in str(plan)
    # It has no statistics of the picture: the option changes nothing.
    assert Planner(tiny_edsr(), tile=24, statistics="tile").plan(300, 400) == plan


def test_tile_of_a_network_with_statistics(quantized: SRNetwork) -> None:
    plan = Planner(quantized, tile=24).plan(300, 400)
    assert (plan.tile, plan.margin, plan.whole_features, plan.exact) == (24, 2, True, True)
    plan = Planner(quantized, tile=24, statistics="tile").plan(300, 400)
    assert (plan.tile, plan.margin, plan.whole_features, plan.exact) == (24, 8, False, False)
    assert "each with statistics of its own, blended" in str(plan)
    assert Planner(quantized, statistics="tile").plan(600, 400).tile == 512


def test_a_single_tile_has_the_statistics_of_the_picture(quantized: SRNetwork) -> None:
    plan = Planner(quantized, tile=48, statistics="tile")
    assert plan.plan(48, 40).exact and not plan.plan(49, 40).exact
    picture = photograph(48, 40)
    assert np.array_equal(
        upscale(quantized, picture, tile=48, statistics="tile"), upscale(quantized, picture)
    )


class Pooled(nn.Module):
    """Enlarges, and takes away the mean, somewhere in one module."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (
            (x - x.mean((2, 3), keepdim=True) + 0.5).repeat_interleave(2, 2).repeat_interleave(2, 3)
        )


def test_network_of_ones_own_with_statistics() -> None:
    """Where it begins to enlarge is not known: all of it sees the whole picture."""
    network = models.wrap(Pooled(), scale=2)
    plan = Planner(network).plan(300, 400)
    assert (plan.tile, plan.exact) == (None, True)
    assert str(plan).startswith("the whole picture at once; about ")
    with pytest.raises(PtqsrError, match=r"take statistics of tiles \(--stats tile\)"):
        Planner(network, tile=64).plan(300, 400)
    assert not Planner(network, tile=64, statistics="tile").plan(300, 400).exact
    for memory, cure in ((plan.peak_bytes - 1, True), (10**6, False)):  # what would fit is told
        with pytest.raises(PtqsrError) as refusal:
            Planner(network, memory=memory).plan(300, 400)
        assert ("(--stats tile)" in str(refusal.value)) == cure


def test_colours_of_luma_networks_need_a_margin() -> None:
    """Those of a network that looks at no neighbour are bicubic, and look at two."""
    module = nn.Sequential(nn.Conv2d(1, 4, 1), nn.PixelShuffle(2))
    network = models.wrap(module, scale=2, colours="y")
    assert Planner(network, tile=8).plan(40, 40).margin == 2
    picture = photograph(40, 40)
    tiled, whole = upscale(network, picture, tile=8), upscale(network, picture, tile=40)
    assert np.abs(tiled.astype(int) - whole).max() <= 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(tile=7), "tile is 7; it must be at least 8"),
        (dict(tile=0), "tile is 0"),
        (dict(tile=-64), "tile is -64"),
        (dict(statistics="foo"), "stats 'foo' is unknown; choose image or tile"),
        (dict(tile=64, memory=10**9), "either a tile or a memory limit"),
    ],
    ids=str,
)
def test_options_that_make_no_plan(options: dict, named: str) -> None:
    with pytest.raises(PtqsrError, match=named):
        Planner(tiny_edsr(), **options)
    with pytest.raises(PtqsrError, match=named):
        upscale(tiny_edsr(), photograph(8, 8), **options)


# --- a limit ---

SIZE = (600, 800)


def limited(network: SRNetwork, memory: int, **options: str) -> Plan:
    return Planner(network, memory=memory, **options).plan(*SIZE)  # type: ignore[arg-type]


@pytest.mark.usefixtures("nothing_in_use")
def test_less_memory_smaller_tiles() -> None:
    network = tiny_edsr()
    free = Planner(network).plan(*SIZE)
    assert limited(network, free.peak_bytes) == free
    plans, memory = [], free.peak_bytes
    while True:
        try:
            plan = limited(network, memory)
        except PtqsrError:
            break
        assert plan.peak_bytes <= memory and plan.exact
        plans.append(plan)
        memory = plan.peak_bytes - 1
    # The body whole as long as that fits, then smaller and smaller tiles.
    whole = [plan.whole_features for plan in plans]
    assert whole == sorted(whole, reverse=True) and set(whole) == {True, False}
    tiles = [plan.tile or 0 for plan in plans if not plan.whole_features]
    assert len(tiles) > 2 and tiles == sorted(tiles, reverse=True) and tiles[-1] == 32


@pytest.mark.usefixtures("nothing_in_use")
def test_too_little_memory() -> None:
    """It says how much is enough."""
    network = lively("carn", 4)
    with pytest.raises(PtqsrError) as refusal:
        Planner(network, memory=10**6).plan(*SIZE)
    found = re.fullmatch(
        r"800x600 pixels take about (0\.\d\d) GB, more than the limit of 0\.001 GB \(--memory\); "
        r"raise it",
        str(refusal.value),
    )
    assert found is not None
    enough = float(found[1]) * 1e9
    assert Planner(network, memory=int(enough)).plan(*SIZE).peak_bytes <= enough
    with pytest.raises(PtqsrError):
        Planner(network, memory=int(enough - 1e7)).plan(*SIZE)


@pytest.mark.usefixtures("nothing_in_use")
def test_too_little_memory_for_statistics_of_the_picture(quantized: SRNetwork) -> None:
    """Only --stats tile makes it fit, and only where it is asked for."""
    memory = Planner(quantized, tile=32).plan(*SIZE).peak_bytes - 1
    with pytest.raises(PtqsrError, match=r"0\.\d\d GB .*raise it, or take .*\(--stats tile\)"):
        limited(quantized, memory)
    plan = limited(quantized, memory, statistics="tile")
    assert plan.tile and not plan.exact and plan.peak_bytes <= memory
    with pytest.raises(PtqsrError) as refusal:
        limited(quantized, 1, statistics="tile")
    assert "--stats" not in str(refusal.value)


def test_what_the_process_takes_already_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(used: int) -> int:
        monkeypatch.setattr("ptqsr.upscaling.plan._in_use", lambda device: used)
        return Planner(tiny_edsr()).plan(30, 40).peak_bytes

    assert peak(5 * 10**9) - peak(10**9) == 4 * 10**9


def test_on_a_gpu_what_is_there_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors on that GPU, but not the picture, which is put together on the host."""
    monkeypatch.setattr("ptqsr.upscaling.plan._in_use", lambda device: 0)
    on_host = Planner(tiny_edsr()).plan(300, 400).peak_bytes
    monkeypatch.undo()
    monkeypatch.setattr("ptqsr.upscaling.plan.device_of", lambda network: torch.device("cuda", 1))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10**9 * device.index)
    planner = Planner(tiny_edsr())
    made = 600 * 800 * BYTES_PER_OUTPUT_PIXEL
    assert planner.plan(300, 400).peak_bytes == pytest.approx(10**9 + on_host - made, abs=1)


@pytest.mark.usefixtures("nothing_in_use")
def test_estimate_counted_by_hand() -> None:
    """Of the last convolution, in channels of the small picture's size.

    16 channels of features, 16 at twice the size, 3 of these made, and copies of both.
    """
    channels = 16 + 4 * 2 * (16 + 3)
    expected = 128 * 128 * (4 * 12 + 1.15 * 4 * channels)
    assert Planner(tiny_edsr()).plan(128, 128).peak_bytes == int(expected)


@pytest.mark.usefixtures("nothing_in_use")
def test_estimate_grows_with_picture_and_network() -> None:
    small, large = (Planner(lively("edsr", scale)).plan(200, 200).peak_bytes for scale in (2, 4))
    assert small < large
    assert Planner(lively("edsr", 2)).plan(200, 400).peak_bytes > 1.5 * small
    # Tiles in every place: only the output grows with the picture.
    one, two = (Planner(tiny_edsr(), tile=32).plan(h, 400).peak_bytes for h in (200, 400))
    assert two - one == 200 * 400 * 4 * 12


@pytest.mark.usefixtures("nothing_in_use")
def test_a_limit_keeps_the_picture() -> None:
    network, picture = lively("edsr", 2), photograph(150, 160)
    free = Planner(network).plan(150, 160)
    memory = int(free.peak_bytes * 0.3)
    assert Planner(network, memory=memory).plan(150, 160).tile in (32, 48, 64)
    limited = upscale(network, picture, memory=memory)
    assert np.abs(limited.astype(int) - upscale(network, picture)).max() <= 1


class _Valued(nn.Module):
    """Needs a number from the picture, which the meta device has not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2) * float(x.max())


def test_a_network_that_cannot_be_examined(caplog: pytest.LogCaptureFixture) -> None:
    network = models.wrap(_Valued(), scale=2)
    planner = Planner(network)
    plan = planner.plan(9, 7)
    assert planner.plan(7, 9) == plan and len(caplog.records) == 1
    assert (
        plan.tile is None and plan.peak_bytes is None and str(plan) == "the whole picture at once"
    )
    assert "the whole picture goes through it at once" in caplog.text
    image = photograph(9, 7, 0)
    assert upscale(network, image).shape == (18, 14, 3)
    for options in (dict(tile=32), dict(memory="1GB"), dict(statistics="tile")):
        with pytest.raises(PtqsrError, match="tiles and memory cannot be planned"):
            Planner(network, **options).plan(9, 7)
