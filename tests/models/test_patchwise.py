"""Networks that see a picture patch by patch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import ptqsr
from ptqsr import PtqsrError, models
from ptqsr.evaluation import evaluate
from ptqsr.models import PatchWise, SRNetwork
from ptqsr.upscaling import Planner, upscale

pytestmark = pytest.mark.usefixtures("one_thread")

# How far an output pixel of the tiny EDSR looks: head, two blocks of two, body's end, and its tail.
RADIUS = 9


class Enlarge(SRNetwork):
    """Every pixel four times; notes the sizes of its batches."""

    architecture = "edsr"

    def __init__(self) -> None:
        super().__init__(scale=2)
        self.quantized_layers = ()
        self.batches: list[tuple[int, ...]] = []

    def features(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(tuple(x.shape))
        return x

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return F.interpolate(features, scale_factor=2.0)


def test_where_patches_begin() -> None:
    made = PatchWise(Enlarge())
    assert made.starts(200) == [0, 90, 104]
    assert made.starts(186) == [0, 90]
    assert made.starts(96) == made.starts(40) == [0]
    assert made.starts(97) == [0, 1]
    # Of the picture that becomes 1920x1080: 3 x 6 patches.
    assert made.computed(270, 480) == 3 * 6 * 96 * 96 / (270 * 480)
    assert made.computed(50, 60) == 1


@pytest.mark.parametrize("size", [(40, 50), (16, 31), (9, 40), (7, 8)])
@pytest.mark.parametrize("overlap", [0, 3, 8])
def test_what_sees_one_pixel_sees_no_patches(size: tuple[int, int], overlap: int) -> None:
    network = Enlarge()
    made = PatchWise(network, patch=16, overlap=overlap, batch=4)
    x = torch.rand(2, 3, *size)
    torch.testing.assert_close(made(x), network(x), rtol=0, atol=1e-6)
    patches = len(made.starts(size[0])) * len(made.starts(size[1]))
    seen = [shape[0] for shape in network.batches[:-1]]
    assert sum(seen) == 2 * patches and max(seen) <= 2 * 4
    assert {s[2:] for s in network.batches[:-1]} == {(min(16, size[0]), min(16, size[1]))}


def test_where_they_overlap_they_are_averaged() -> None:
    class Numbered(Enlarge):
        """Gives the place of the patch in its batch."""

        def features(self, x: torch.Tensor) -> torch.Tensor:
            return torch.arange(len(x)).view(-1, 1, 1, 1).expand_as(x).float()

    made = PatchWise(Numbered(), patch=8, overlap=2)(torch.rand(1, 3, 8, 14))
    row = made[0, 0, 0].tolist()
    assert row == [0.0] * 12 + [0.5] * 4 + [1.0] * 12


@torch.no_grad()
def test_inside_of_patches_it_is_the_whole_picture(tiny: SRNetwork) -> None:
    """Wherever all patches of a pixel see all that the network looks at."""
    made = PatchWise(tiny, patch=40, overlap=4)
    x = torch.rand(1, 3, 60, 76)
    same = torch.ones(60, 76, dtype=torch.bool)
    for axis, length in enumerate((60, 76)):
        for start in made.starts(length):
            for edge in (start, start + 40):
                if 0 < edge < length:
                    near = slice(edge - RADIUS, edge + RADIUS)
                    same[(near, slice(None)) if axis == 0 else (slice(None), near)] = False
    assert same.float().mean() > 0.1
    apart = (made(x) - tiny(x)).abs().amax((0, 1))
    apart = F.max_pool2d(apart[None], 2)[0]
    assert apart[same].max() < 1e-5
    assert apart[~same].max() > 1e-4


def test_evaluated_and_enlarged(tiny: SRNetwork, pictures: list[object]) -> None:
    made = PatchWise(tiny, patch=16, overlap=2)
    lr = pictures[0]
    result = upscale(made, lr)  # type: ignore[arg-type]
    assert result.shape == (48, 60, 3)
    assert str(Planner(made).plan(24, 30)) == "patches of 16 that overlap by 2"
    # Of what it made itself: nothing is lost on the way.
    assert evaluate(made, [(lr, result)]).psnr == float("inf")  # type: ignore[list-item]
    with pytest.raises(PtqsrError, match="no tiles"):
        Planner(made, tile=16).plan(24, 30)


def test_what_is_kept_is_the_network(tiny: SRNetwork, tmp_path: Path) -> None:
    made = PatchWise(tiny)
    with pytest.raises(PtqsrError, match="save the one that it runs"):
        ptqsr.save(made, tmp_path / "made.safetensors")
    with pytest.raises(PtqsrError, match="deploy the one that it runs"):
        ptqsr.deploy(made)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (dict(patch=7), "at least 8"),
        (dict(patch=8, overlap=5), "to half"),
        (dict(overlap=-1), "from 0"),
        (dict(batch=0), "at least 1"),
    ],
)
def test_bad_sizes(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(PtqsrError, match=message):
        PatchWise(models.build("edsr", scale=2, weights=None, blocks=1, width=8), **sizes)
