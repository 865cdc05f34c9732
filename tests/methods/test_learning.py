"""What blocks are given while they learn: which pictures, which values, which steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import photograph, tiny_edsr
from torch import nn
from upscaling.networks import lively

import ptqsr
from ptqsr import Config, PtqsrError, models
from ptqsr.images import to_tensor
from ptqsr.methods import learning, reconstruct, refine
from ptqsr.methods.dropping import Dropping
from ptqsr.methods.samples import Samples
from ptqsr.methods.soft import SoftBlock
from ptqsr.methods.units import passing
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import NearestRounding, SoftRounding

PICTURES = [photograph(12, 14, seed) for seed in range(5)]
OTHERS = [photograph(12, 14, seed) for seed in (8, 9)]


def config(method: str, iterations: int = 2) -> Config:
    return Config(
        method=method, bits=3, iterations=iterations, reconstruct=method == "dfsq+", seed=4
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, torch.Tensor]]:
    """Every mask, and whose: of a block's input, of a layer that reads it, of another layer."""
    found: list[tuple[str, torch.Tensor]] = []

    class Watched(Dropping):
        def mixed(self, quantized: torch.Tensor, floating: torch.Tensor) -> torch.Tensor:
            x = super().mixed(quantized, floating)
            found.append(("block", self._of_input))
            return x

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            mask = super().__call__(x)
            found.append(("input" if mask is self._of_input else "inside", mask))
            return mask

    monkeypatch.setattr(learning, "Dropping", Watched)
    return found


def about_half(mask: torch.Tensor) -> bool:
    return abs(int(mask.sum()) - mask.numel() / 2) < 4 * 0.5 * mask.numel() ** 0.5


@pytest.mark.parametrize("variant", ["edsr", "imdn", "rdn", "carn"])
def test_qdrop_leaves_half_in_floating_point(
    variant: str, drawn: list[tuple[str, torch.Tensor]]
) -> None:
    network = lively(variant, 2)
    found = ptqsr.calibrate(network, PICTURES, config("qdrop", 3))
    of = {kind: [mask for whose, mask in drawn if whose == kind] for kind, _ in drawn}
    assert len(of["block"]) == 3 * learning.BATCH * len(found.reconstruction)
    assert len(of["input"]) >= len(of["block"])  # in every block a layer reads its very input
    for kind in ("block", "inside"):
        assert about_half(torch.cat([mask.flatten() for mask in of[kind]]))
    # Neither blocks nor iterations repeat each other's.
    first = [mask.flatten()[:64].tolist() for mask in of["block"]]
    assert len({tuple(some) for some in first}) == len(first)


def test_brecq_leaves_nothing(drawn: list[tuple[str, torch.Tensor]]) -> None:
    ptqsr.calibrate(tiny_edsr(), PICTURES, config("brecq", 1))
    assert not drawn


def test_a_value_of_the_block_input_is_drawn_once() -> None:
    """Float and not quantized, or the quantized network's and quantized; within, each by itself."""
    network = ptqsr.calibrate(tiny_edsr(), PICTURES, config("brecq", 0))
    names = ("body.0.body.0", "body.0.body.2")
    convs = [network.get_submodule(name) for name in names]
    latents = {n: c.quantized_weight.levels().float() for n, c in zip(names, convs, strict=True)}
    block = SoftBlock(
        network, "body.0", names, latents, SoftRounding, affine=False, learned_steps=()
    )
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def watched(layer: FakeQuantConv2d) -> Callable[..., torch.Tensor]:
        def convolve(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
            seen.append((x, FakeQuantConv2d._conv_forward(layer, x, *rest)))
            return seen[-1][1]

        return convolve

    for conv in block.convs.values():
        conv.layer._conv_forward = watched(conv.layer)
    ours, theirs = torch.randn(2, 1, 16, 24, 25)
    dropping = Dropping(0.5, torch.Generator().manual_seed(1))
    x = dropping.mixed(ours, theirs)
    block.drop(dropping)
    with torch.no_grad():
        block(x)
    (first, made), (second, _) = seen
    floating = x == theirs
    assert about_half(floating) and torch.equal(x[~floating], ours[~floating])
    assert torch.equal(first, torch.where(floating, theirs, convs[0].quantizer(ours)))
    inner = made.relu()
    quantized = convs[1].quantizer(inner)
    moved = quantized != inner
    kept = second == inner
    assert about_half(kept[moved]) and torch.equal(second[~kept], quantized[~kept])


def given(samples: Samples) -> list[torch.Tensor]:
    return [samples[number].given for number in range(len(samples))]


@pytest.mark.parametrize("held_out", [None, OTHERS])
@pytest.mark.parametrize("method", ["dfsq+", "brecq"])
def test_who_sees_what(method: str, held_out: list | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and dfsq+ learn from all, or from what is left of them, never from the held-out."""
    jobs: list[tuple[Samples, Samples]] = []
    rounded: list[int] = []

    class Watched(learning.Learning):
        def run(self, *rest: object) -> object:
            jobs.append((given(self.training), given(self.held_out)))
            return super().run(*rest)

    def watch(network: object, model: object, names: object, inputs: object, *rest: object) -> None:
        rounded.append(len(list(inputs)))
        refine.refine(network, model, names, inputs, *rest)

    monkeypatch.setattr(reconstruct, "Learning", Watched)
    monkeypatch.setattr("ptqsr.methods.run.refine", watch)
    ptqsr.calibrate(tiny_edsr(), PICTURES, config(method), held_out=held_out)
    apart = 1 if held_out is None else len(held_out)
    learned = len(PICTURES) - (held_out is None)
    assert rounded == ([learned] if method == "dfsq+" else [])
    assert len(jobs) == 2
    for training, kept in jobs:
        assert len(training) == 4 * learned and len(kept) == apart
        assert not any(a.shape == b.shape and torch.equal(a, b) for a in training for b in kept)
    if held_out is not None:
        with torch.no_grad():
            ((expected, _),) = passing(tiny_edsr(), "body.0", 1, to_tensor(OTHERS[0]))
        assert torch.equal(jobs[0][1][0], expected)


def test_held_out_pictures_are_refused_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is measured."""
    monkeypatch.setattr("ptqsr.methods.run.simulate", None)
    for images, more, named in (
        (PICTURES[:1], {}, "one calibration picture is too few"),
        (PICTURES, {"held_out": []}, "held-out: no pictures were given"),
        (PICTURES, {"held_out": [torch.rand(3, 3)]}, "held-out picture 0: shape"),
    ):
        with pytest.raises(PtqsrError, match=named):
            ptqsr.calibrate(tiny_edsr(), images, config("brecq"), **more)
    for plain in (Config(), config("brecq", 0), Config(method="dfsq+")):
        with pytest.raises(PtqsrError, match=r"held_out: .* reconstructs no blocks"):
            ptqsr.calibrate(tiny_edsr(), PICTURES, plain, held_out=OTHERS)


class Twice(nn.Module):
    """A tensor that two layers read, and one that one does."""

    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(5))
        self.first, self.a, self.b, self.c, self.last = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.last(self.c(self.a(x) + self.b(x)) + x)


def test_a_step_is_learned_in_the_first_block_that_reads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: dict[str, int] = {}

    class Watched(SoftBlock):
        def __init__(self, network: models.SRNetwork, name: str, *rest: object, **more: object):
            super().__init__(network, name, *rest, **more)
            made[name] = len(self.steps)

    monkeypatch.setattr(reconstruct, "SoftBlock", Watched)
    torch.manual_seed(0)
    found = ptqsr.calibrate(models.wrap(Twice(), scale=1), PICTURES, config("brecq"))
    assert found.module.a.quantizer is found.module.b.quantizer
    assert made == {"module.a": 1, "module.b": 0, "module.c": 1}


def test_levels_stay_within_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the steps, a weight is never farther out than one step brings back."""
    blocks: list[SoftBlock] = []

    class Watched(SoftBlock):
        def __init__(self, *given: object, **more: object):
            super().__init__(*given, **more)
            blocks.append(self)

    monkeypatch.setattr(reconstruct, "SoftBlock", Watched)
    monkeypatch.setattr(learning, "RATES", dict.fromkeys(learning.RATES, 5.0))
    ptqsr.calibrate(tiny_edsr(), PICTURES, config("dfsq+", 3))
    for conv in (conv for block in blocks for conv in block.convs.values()):
        rounding = conv.rounding
        assert isinstance(rounding, NearestRounding)
        assert (rounding.v >= rounding.low - 0.5).all() and (
            rounding.v <= rounding.high + 0.5
        ).all()
