"""Collecting statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ptqsr import PtqsrError, models
from ptqsr.calibration import (
    ChannelRanges,
    Inputs,
    NormalisedHistogram,
    Part,
    Sighting,
    ValueHistogram,
    collect,
    readings,
)
from ptqsr.models import observing


def test_ranges_add_up() -> None:
    parts = [torch.randn(2, 3, 5, 4) for _ in range(3)]
    ranges = ChannelRanges(3)
    for part in parts:
        ranges.update(part)
    everything = torch.cat(parts)
    assert torch.equal(ranges.low, everything.amin((0, 2, 3)))
    assert torch.equal(ranges.high, everything.amax((0, 2, 3)))
    assert not ranges.nonnegative.any()
    clean = ChannelRanges(2)
    clean.update(torch.tensor([0.0, -1e-9]).view(1, 2, 1, 1))
    assert clean.nonnegative.tolist() == [True, False]


def test_histogram_of_normalised_values() -> None:
    x = torch.randn(2, 3, 40, 50)
    x[:, 1] = x[:, 1].abs()
    x[0, 2] = 5.0  # constant in one sample: adds nothing
    statistics = NormalisedHistogram(torch.tensor([False, True, False]), 104)
    statistics.update(x)
    assert statistics.counts.shape == (3, 4160)
    assert statistics.counts.sum(1).tolist() == [4000, 4000, 2000]
    assert statistics.counts[1, : 4160 // 2].sum() == 0
    z = x[1, 0].double() - x[1, 0].double().mean()
    z0 = x[0, 0].double() - x[0, 0].double().mean()
    both = torch.cat([(z / z.abs().max()).flatten(), (z0 / z0.abs().max()).flatten()])
    expected = torch.histc(both, 4160, -1, 1)
    # Float32 against float64: a value may fall into the next bin.
    assert (statistics.counts[0] - expected).abs().sum() <= 40
    assert ((statistics.counts * statistics.centres).sum(1)[1] > 0).all()
    again = NormalisedHistogram(torch.tensor([False, True, False]), 104)
    for sample in (x[1:], x[:1]):
        again.update(sample)
    assert torch.equal(again.counts, statistics.counts)


def test_no_bin_straddles_a_threshold() -> None:
    for d in (32, 104, 127, 1024):
        bins = NormalisedHistogram(torch.zeros(1).bool(), d).counts.shape[1]
        assert bins % (4 * d) == 0 or bins == 4 * d


def test_percentiles() -> None:
    x = torch.randn(4, 2, 50, 50)
    histogram = ValueHistogram(float(x.min()), float(x.max()))
    for sample in x.split(1):
        histogram.update(sample)
    for q in (1, 25, 50, 99):
        assert histogram.percentile(q) == pytest.approx(np.percentile(x.numpy(), q), abs=0.02)
    assert histogram.percentile(0) == float(x.min())
    assert histogram.percentile(100) == pytest.approx(float(x.max()))
    flat = ValueHistogram(2.0, 2.0)
    flat.update(torch.full((1, 1, 2, 2), 2.0))
    assert flat.percentile(1) == flat.percentile(99) == 2.0


class Shared(nn.Module):
    """a and b read one tensor, c another, d what an in-place operation made of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(3, 3, 1) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * 1
        y = self.c(self.a(x)) + self.b(x)
        return y + self.d(x.relu_())


@pytest.mark.parametrize("per_channel", [False, True])
def test_layers_that_read_one_tensor_share(per_channel: bool) -> None:
    net = Shared()
    wrapped = models.wrap(net, scale=1)
    layers = {name: getattr(net, name) for name in "abcd"}
    x = torch.randn(1, 3, 4, 4)
    found = readings(wrapped, layers, x, per_channel=per_channel)
    assert found.layers == {"a": (0,), "b": (0,), "c": (1,), "d": (2,)}
    assert found.parts[0] == Part(3, (Sighting("a", 0, 0),), of_picture=per_channel)
    statistics = collect(
        wrapped, layers, {0: found.parts[0]}, [x, 2 * x], lambda _, n: ChannelRanges(n)
    )
    assert torch.equal(statistics[0].high, (2 * x).amax((0, 2, 3)).maximum(x.amax((0, 2, 3))))
    assert not net.a._forward_pre_hooks


class Joined(nn.Module):
    """Concatenations as in RDN, a split as in IDN, a recursive layer as in CARN-M."""

    def __init__(self) -> None:
        super().__init__()
        self.grow1, self.grow2 = nn.Conv2d(4, 2, 1), nn.Conv2d(6, 2, 1)
        self.fuse = nn.Conv2d(8, 4, 1)
        self.again = nn.Conv2d(4, 4, 1)
        self.rest = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.repeat(1, 2, 1, 1)[:, :4] * 1
        wide = torch.cat((x, self.grow1(x)), dim=1)
        wide = torch.cat((wide, self.grow2(wide)), dim=-3)
        y = self.again(self.again(self.fuse(wide)))
        kept, rest = torch.split(y, [1, 3], dim=1)
        return self.rest(rest) + wide[:, 5:] + kept


def test_concatenations_are_lists_of_their_parts() -> None:
    net = Joined()
    wrapped = models.wrap(net, scale=1)
    layers = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    x = torch.randn(2, 3, 4, 5)
    found = readings(wrapped, layers, x, per_channel=True)
    assert found.layers == {
        "grow1": (0,),
        "grow2": (0, 1),
        "fuse": (0, 1, 2),
        "again": (3,),
        "rest": (4,),
    }
    assert [part.channels for part in found.parts] == [4, 2, 2, 4, 3]
    # The recursive layer's tensors are measured into one part, every tensor once.
    assert found.parts[3].sightings == (Sighting("again", 0, 0), Sighting("again", 1, 0))
    assert found.parts[1].sightings == (Sighting("grow2", 0, 4),)
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    with observing(layers, lambda name, tensor: seen[name].append(tensor)), torch.no_grad():
        wrapped(x)
    statistics = collect(
        wrapped, layers, dict(enumerate(found.parts)), [x], lambda _, n: ChannelRanges(n)
    )
    assert torch.equal(statistics[2].high, seen["fuse"][0][:, 6:].amax((0, 2, 3)))
    assert torch.equal(statistics[3].low, torch.cat(seen["again"]).amin((0, 2, 3)))
    whole = readings(wrapped, layers, x, per_channel=False)
    assert [part.channels for part in whole.parts] == [4, 6, 8, 4, 3]


def test_a_part_that_a_recursive_layer_reads_too_is_measured_everywhere() -> None:
    """`once` sees one of the tensors that share points, `twice` both."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.once, self.twice = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.once(x) + self.twice(self.twice(x))

    net = Net()
    layers = {"once": net.once, "twice": net.twice}
    found = readings(models.wrap(net, scale=1), layers, torch.rand(1, 3, 2, 2), per_channel=True)
    assert found.layers == {"once": (0,), "twice": (0,)}
    assert found.parts[0].sightings == (Sighting("once", 0, 0), Sighting("twice", 1, 0))


def test_a_layer_that_never_runs_is_named() -> None:
    net = Shared()
    idle = {"idle": nn.Conv2d(1, 1, 1)}
    with pytest.raises(PtqsrError, match="layer idle: the network never runs it"):
        readings(models.wrap(net, scale=1), idle, torch.rand(1, 3, 2, 2), per_channel=True)


def test_hooks_come_off_after_an_error() -> None:
    net = Shared()
    x = torch.full((1, 3, 2, 2), torch.nan)
    parts = {0: Part(3, (Sighting("a", 0, 0),))}
    with pytest.raises(PtqsrError, match="layer a: its input holds NaN"):
        collect(models.wrap(net, scale=1), {"a": net.a}, parts, [x], lambda _, n: ChannelRanges(n))
    assert not net.a._forward_pre_hooks


def test_inputs(tiny: models.SRNetwork) -> None:
    grey, rgb = np.zeros((4, 5), np.uint8), np.full((4, 5, 3), 255, np.uint8)
    inputs = Inputs([grey, rgb, torch.rand(3, 6, 7), torch.rand(2, 3, 6, 7)], tiny)
    for _ in range(2):
        shapes = [tuple(x.shape) for x in inputs]
        assert shapes == [(1, 3, 4, 5), (1, 3, 4, 5), (1, 3, 6, 7), (2, 3, 6, 7)]
    assert [float(x.max()) for x in inputs][:2] == [0, 1]
    wrong = {
        "no pictures": [],
        "NaN": [torch.full((3, 2, 2), torch.nan)],
        r"\[0, 1\]": [torch.full((3, 2, 2), 200.0)],
        "shape": [torch.zeros(2, 2)],
        "is a dict": [{}],
    }
    for words, images in wrong.items():
        with pytest.raises(PtqsrError, match=words):
            list(Inputs(images, tiny))


def test_luma_networks_get_luma() -> None:
    net = models.wrap(nn.Conv2d(1, 1, 1), scale=1, colours="y")
    (x,) = Inputs(np.full((2, 2, 3), 255, np.uint8), net)
    assert x.shape == (1, 1, 2, 2)
    assert float(x[0, 0, 0, 0]) == pytest.approx(235 / 255, abs=1e-3)


def test_a_layer_that_runs_more_often_on_another_picture_is_named() -> None:
    """Its later tensors would not be measured."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.again = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(x.shape[2]):
                x = self.again(x)
            return x

    net = Net()
    layers, wrapped = {"again": net.again}, models.wrap(net, scale=1)
    pictures = [torch.rand(1, 3, 2, 2), torch.rand(1, 3, 4, 2)]
    found = readings(wrapped, layers, pictures[0], per_channel=True)
    parts = dict(enumerate(found.parts))
    with pytest.raises(PtqsrError, match=r"layer again: runs 4 times on .* picture 1, 2 on the"):
        collect(wrapped, layers, parts, pictures, lambda _, n: ChannelRanges(n))


def shares_of(make: Callable[[], Any], tensors: list[torch.Tensor], order: list[int]) -> Any:
    """Statistics taken in three shares, which are added up in some order."""
    shares = []
    for first in range(3):
        share = make()
        for x in tensors[first::3]:
            share.update(x)
        shares.append(share)
    total = make()
    for number in order:
        total.add(shares[number])
    return total


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_shares_add_up_to_one_pass(order: list[int]) -> None:
    """Bit for bit, whoever took which picture: nothing in there is a sum that is rounded."""
    torch.manual_seed(0)
    tensors = [torch.randn(1, 4, 9 + n, 11) * 10**n for n in range(7)]
    for x in tensors:
        x[:, 1].abs_()
    signs = torch.tensor([False, True, False, False])
    kinds: list[Callable[[], Any]] = [
        lambda: ChannelRanges(4),
        lambda: ValueHistogram(-4e6, 4e6),
        lambda: NormalisedHistogram(signs, 104),
        lambda: NormalisedHistogram(signs, 1024),
    ]
    for make in kinds:
        one = make()
        for x in tensors:
            one.update(x)
        total = shares_of(make, tensors, order)
        for name, value in vars(one).items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(getattr(total, name)))
    assert one.counts.sum() > 0 and not total.nonnegative.all()


def test_other_histograms_do_not_add_up() -> None:
    signs = torch.tensor([False, True])
    with pytest.raises(ValueError, match="different ranges"):
        ValueHistogram(0, 1).add(ValueHistogram(0, 2))
    for other in (NormalisedHistogram(~signs, 104), NormalisedHistogram(signs, 127)):
        with pytest.raises(ValueError, match="normalised otherwise"):
            NormalisedHistogram(signs, 104).add(other)


def test_parts_of_the_inputs_keep_their_numbers(tiny: models.SRNetwork) -> None:
    pictures: list[Any] = [torch.rand(3, 4, 4 + n) for n in range(5)]
    inputs = Inputs(pictures, tiny)
    pieces = [inputs.part(0, 2), inputs.part(2, 9).part(1, 3)]
    assert [[x.shape[3] for x in piece] for piece in pieces] == [[4, 5], [7, 8]]
    assert [piece.first for piece in pieces] == [0, 3] and len(inputs) == 5
    inputs.images[4] = {}
    with pytest.raises(PtqsrError, match="calibration picture 4: is a dict"):
        list(inputs.part(3, 5))
