"""Pictures through networks: tiles change nothing, or as little as they say."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from helpers import photograph, tiny_edsr
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from ptqsr import PtqsrError, models
from ptqsr.images import Picture, luma, to_levels, to_tensor, to_uint8, with_luma
from ptqsr.images import upscale as bicubic
from ptqsr.models import SRNetwork
from ptqsr.upscaling import Plan, Planner, run, upscale, upscale_picture
from ptqsr.upscaling.tiles import spans

from .networks import VARIANTS, given, levels_apart, lively

pytestmark = pytest.mark.usefixtures("one_thread")


def whole(network: SRNetwork, image: np.ndarray) -> np.ndarray:
    """The network's own output, without any of what is tested here."""
    with torch.no_grad():
        y = network(given(network, image))
    assert y.std() > 0.1 and ((y > 0) & (y < 1)).float().mean() > 0.3  # worth comparing
    if network.colours == "y":
        y = with_luma(to_levels(bicubic(image, network.scale)), y.double() * 255) / 255
    return to_uint8(y)[0].permute(1, 2, 0).numpy()


def tiles(plan: Plan, image: np.ndarray) -> int:
    return len(spans(image.shape[0], plan.tile, 0, False)) * len(
        spans(image.shape[1], plan.tile, 0, False)
    )


def test_every_architecture_has_a_variant() -> None:
    assert {architecture for architecture, _ in VARIANTS.values()} == set(models.ARCHITECTURES)


# Of x4 those that enlarge in two steps.
EVERY = [(variant, 3) for variant in VARIANTS]
EVERY += [(variant, 4) for variant in VARIANTS if variant not in ("idn", "idn_y", "imdn")]


@pytest.mark.parametrize(("variant", "scale"), EVERY)
def test_tiles_make_the_same_picture(variant: str, scale: int) -> None:
    network = lively(variant, scale)
    planner = Planner(network, tile=32)
    margin = planner.plan(64, 64).margin
    # Larger than what a tile reads, and no multiple of it.
    image = photograph(32 + 2 * margin + 7, 32 + 2 * margin + 12)
    expected = whole(network, image)
    plan = planner.plan(*image.shape[:2])
    assert plan.whole_features == (variant == "imdn") and plan.exact
    assert tiles(plan, image) >= 4
    assert levels_apart(run(network, image, plan), expected).max() <= 1
    # Not so with too small a margin.
    assert levels_apart(run(network, image, replace(plan, margin=0)), expected).max() > 20


@pytest.mark.parametrize("variant", VARIANTS)
def test_tail_by_tiles_is_the_default(variant: str) -> None:
    """Of pictures larger than its tile, 128."""
    network = lively(variant, 2)
    image = photograph(20, 150)
    plan = Planner(network).plan(20, 150)
    assert plan.whole_features and tiles(plan, image) == 2
    expected = whole(network, image)
    assert levels_apart(upscale(network, image), expected).max() <= 1
    assert levels_apart(run(network, image, replace(plan, margin=0)), expected).max() > 20


def test_progress() -> None:
    network, image = tiny_edsr(), photograph(40, 50)
    for tile, total in ((None, 6 + 1), (16, 3 * 4)):
        seen: list[tuple[int, int]] = []
        upscale(network, image, tile=tile, progress=lambda *now, seen=seen: seen.append(now))
        assert {there for _, there in seen} == {total}
        done = [now for now, _ in seen]
        assert done == sorted(done) and done[-1] == total and len(done) == total
    assert not any(layer._forward_pre_hooks for layer in network.modules())


# --- statistics of the picture ---


def test_tiles_keep_the_statistics_of_the_picture(quantized: SRNetwork) -> None:
    image = photograph(60, 70)
    expected = whole(quantized, image)
    for tile in (8, 16, 60):
        assert levels_apart(upscale(quantized, image, tile=tile), expected).max() <= 1


def test_statistics_of_each_tile(quantized: SRNetwork) -> None:
    """Another picture, but one that is close, without seams: no worse at the borders of tiles."""
    image = photograph(64, 96)
    expected = whole(quantized, image)
    plan = Planner(quantized, tile=32, statistics="tile").plan(64, 96)
    assert not plan.exact and not plan.whole_features and tiles(plan, image) == 6
    made = run(quantized, image, plan)
    apart = levels_apart(made, expected)
    assert 0.5 < apart.mean() < 8 and apart.max() < 64
    steps = np.abs(np.diff(made.astype(float) - expected, axis=1)).mean((0, 2))
    borders = [63, 127]
    assert steps[borders].max() < 1.2 * np.delete(steps, borders).mean()


class Centred(nn.Module):
    """Takes the mean away, and enlarges by repetition; looks 8 pixels far, but sees nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 17, padding=8, groups=3, bias=False)
        nn.init.dirac_(self.conv.weight, groups=3)
        self.enlarge = nn.Upsample(scale_factor=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.enlarge(self.conv(x) - x.mean((2, 3), keepdim=True) + 0.5)


def test_blending_leaves_no_seam() -> None:
    """Of a ramp, tiles differ most: each takes its own mean away."""
    ramp = np.linspace(60, 190, 96).round().astype(np.uint8)
    image = np.broadcast_to(ramp[None, :, None], (20, 96, 3)).copy()
    network = models.wrap(Centred(), scale=2)
    plan = Planner(network, tile=32, statistics="tile").plan(20, 96)
    assert (plan.margin, plan.exact) == (8, False)

    def step(plan: Plan) -> int:
        line = run(network, image, plan)[0, :, 0].astype(int)
        return max(abs(b - a) for a, b in pairwise(line))

    assert step(plan) <= 4
    assert step(replace(plan, exact=True)) > 30  # which blends nothing


# --- pictures of all shapes ---


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(1, 1), (1, 37), (37, 1), (2, 3)], ids=str)
def test_small_pictures(variant: str, size: tuple[int, int]) -> None:
    network, image = lively(variant, 3), photograph(*size)
    y = to_uint8(network(given(network, image)))[0].permute(1, 2, 0).numpy()
    for tile in (None, 8):
        made = upscale(network, image, tile=tile)
        assert made.shape == (size[0] * 3, size[1] * 3, 3) and made.dtype == np.uint8
        if network.colours == "rgb":
            assert levels_apart(made, y).max() <= 1


@pytest.mark.parametrize("size", [(2000, 3), (3, 2000)], ids=str)
def test_long_pictures(size: tuple[int, int]) -> None:
    network = lively("edsr", 2)
    image = photograph(*size)
    plan = Planner(network).plan(*size)
    assert tiles(plan, image) == 16
    expected = whole(network, image)
    assert levels_apart(run(network, image, plan), expected).max() <= 1
    assert levels_apart(upscale(network, image, tile=100), expected).max() <= 1


def test_a_narrow_picture_through_many_channels() -> None:
    """A gate of one value a channel has more values than this picture has pixels."""
    torch.manual_seed(0)
    network = models.build("imdn", scale=2, weights=None, blocks=1)
    assert Planner(network, tile=8).plan(1, 60).whole_features
    assert (
        levels_apart(
            upscale(network, photograph(1, 60), tile=8), upscale(network, photograph(1, 60))
        ).max()
        <= 1
    )


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (np.zeros((4, 5, 3), np.float32), "give a uint8 array"),
        (np.zeros((4, 5), np.uint8), "give a uint8 array"),
        ([[[1, 2, 3]]], "give a uint8 array"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), "give a uint8 array"),
        (np.zeros((4, 5, 4), np.uint8), r"shape \(4, 5, 4\)"),
        (np.zeros((4, 5, 1), np.uint8), r"shape \(4, 5, 1\)"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_picture(image: Any, named: str) -> None:
    with pytest.raises(PtqsrError, match=named):
        upscale(tiny_edsr(), image)


def test_no_network() -> None:
    module: Any = nn.Conv2d(3, 3, 3)
    with pytest.raises(PtqsrError, match=r"wrap it"):
        upscale(module, photograph(4, 5))
    small = models.wrap(nn.Conv2d(3, 3, 1), scale=2)
    with pytest.raises(PtqsrError, match=r"makes 5x4 of 5x4 pixels"):
        upscale(small, photograph(4, 5))


def test_network_without_sense() -> None:
    network = tiny_edsr()
    with torch.no_grad():
        network.tail[1].bias[0] = float("nan")  # type: ignore[index, union-attr]
    with pytest.raises(PtqsrError, match="NaN or Inf"):
        upscale(network, photograph(8, 8))


def test_array_may_be_read_only_or_a_view() -> None:
    image = photograph(20, 24)
    expected = upscale(tiny_edsr(), image[:, ::-1].copy())
    image.setflags(write=False)
    assert np.array_equal(upscale(tiny_edsr(), image[:, ::-1]), expected)


# --- colours ---


def test_grey_stays_grey_on_luma() -> None:
    """Exactly, whatever the network does: white, black, a ramp."""
    network = lively("idn_y", 2)
    ramp = np.arange(0, 256, 4, dtype=np.uint8)
    grey = np.vstack([np.tile(ramp, (20, 1)), np.full((20, 64), 255), np.zeros((20, 64))])
    image = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    for tile in (None, 16):
        made = upscale(network, image, tile=tile)
        assert (made == made[..., :1]).all()
        assert made.std() > 30


def test_white_and_black_stay_so_on_luma() -> None:
    """With a network that adds nothing to its bicubic part."""
    network = models.build("idn", scale=2, weights=None, colours="y", width=16)
    upsample: Any = network.upsample
    nn.init.zeros_(upsample.weight)
    nn.init.zeros_(upsample.bias)
    for level in (0, 1, 127, 254, 255):
        image = np.full((9, 11, 3), level, np.uint8)
        assert (upscale(network, image) == level).all()
    # And colours are those of the bicubic picture.
    image = photograph(24, 30)
    assert levels_apart(upscale(network, image), bicubic(image, 2)).max() <= 1


def test_luma_network_changes_luma_alone() -> None:
    network, image = lively("idn_y", 2), photograph(24, 30)
    made, colours = (to_levels(x) for x in (upscale(network, image), bicubic(image, 2)))
    with torch.no_grad():
        y = network(given(network, image)) * 255
    kept = ((made > 0) & (made < 255)).all(dim=1, keepdim=True)  # where nothing was cut off
    assert kept.float().mean() > 0.3
    assert (luma(made) - y)[kept].abs().max() < 0.6
    change = made - colours
    assert (change.amax(1, keepdim=True) - change.amin(1, keepdim=True))[kept].max() <= 1


levels = st.integers(0, 255)


@settings(deadline=None)
@drawn(st.lists(st.tuples(levels, levels, levels), min_size=1, max_size=8), st.floats(-300, 600))
def test_with_luma(colours: list[tuple[int, int, int]], y: float) -> None:
    """It gives the luma that is asked for; Cb and Cr stay."""
    rgb = torch.tensor(colours, dtype=torch.float64).T[None, :, None]
    wanted = torch.full_like(rgb[:, :1], y)
    made = with_luma(rgb, wanted)
    assert (luma(made) - wanted).abs().max() < 1e-9
    # MATLAB's rgb2ycbcr, rows of Cb and Cr.
    chroma = torch.tensor(
        [[-37.945, -74.494, 112.439], [112.439, -94.154, -18.285]], dtype=torch.float64
    )
    before, after = (torch.einsum("kc,nchw->nkhw", chroma / 256, x) for x in (rgb, made))
    assert (after - before).abs().max() < 1e-9
    assert (with_luma(rgb, luma(rgb)) - rgb).abs().max() < 1e-9


def test_picture_keeps_its_company() -> None:
    network, image = tiny_edsr(), photograph(20, 30)
    alpha = photograph(20, 30, 1)[..., 0]
    picture = Picture(image, grey=True, alpha=alpha, icc=b"profile", notice="said already")
    plan = Planner(network).plan(20, 30)
    large = upscale_picture(network, picture, plan)
    assert np.array_equal(large.rgb, run(network, image, plan))
    assert large.alpha is not None
    assert np.array_equal(large.alpha, bicubic(alpha[..., None], 2)[..., 0])
    assert (large.grey, large.icc, large.notice) == (True, b"profile", None)
    assert upscale_picture(network, Picture(image), plan).alpha is None


def test_to_tensor_and_back() -> None:
    image = np.arange(256 * 3, dtype=np.uint32).reshape(1, 256, 3).astype(np.uint8)
    assert np.array_equal(to_uint8(to_tensor(image))[0].permute(1, 2, 0).numpy(), image)
