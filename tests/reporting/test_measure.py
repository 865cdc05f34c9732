"""What a report says, against the same computed another way."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace as replace_fields
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ptqsr import models
from ptqsr.images import luma, to_levels, to_tensor
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d, replace
from ptqsr.quantizers import (
    OffsetQuantizer,
    Offsets,
    QuantizedWeight,
    SelectedQuantizer,
    UniformQuantizer,
)
from ptqsr.reporting import Pictures, Report, make_report, records, write_page
from ptqsr.reporting.bits import BitMap
from ptqsr.reporting.distributions import BINS, Distributions, _histograms
from ptqsr.reporting.figures import write_figures
from ptqsr.reporting.levels import as_given, levels_of, normalised
from ptqsr.reporting.noise import NoiseMeter
from ptqsr.reporting.pictures import bundled_pictures, crops_of
from ptqsr.reporting.sensitivity import sensitivities
from ptqsr.reporting.walk import Meeting, walk
from ptqsr.reporting.weights import weights_of

from .conftest import choosing, pairs, quantized, subject

pytestmark = pytest.mark.usefixtures("one_thread")


def fake_layers(network: SRNetwork) -> dict[str, FakeQuantConv2d]:
    return {n: m for n, m in network.named_modules() if isinstance(m, FakeQuantConv2d)}


def sqnr(meant: torch.Tensor, made: torch.Tensor) -> float:
    return 10 * math.log10(
        float(meant.double().pow(2).sum() / (made - meant).double().pow(2).sum())
    )


class Mixed(nn.Module):
    """x2: a convolution, a linear layer, a transposed convolution, GELU and LeakyReLU between."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.mix = nn.Linear(8, 8)
        self.up = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.leaky_relu(self.head(x), 0.2)
        y = y + F.gelu(self.inner(input=y))
        y = y + self.mix(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        made: torch.Tensor = self.tail(F.leaky_relu(self.up(y), 0.2))
        return made


BITS = {"inner": (4, 3), "mix": (5, 4), "up": (3, 4), "tail": (8, 8)}


def mixed() -> tuple[SRNetwork, SRNetwork]:
    """Return a network of a user's own, and the same with bits by layer."""
    torch.manual_seed(0)
    model = models.wrap(Mixed().eval())
    layers = tuple((f"module.{name}", *bits) for name, bits in BITS.items())
    return model, quantized(model, layers=layers)


def zoo(name: str) -> tuple[SRNetwork, SRNetwork]:
    torch.manual_seed(0)
    model = models.build(name, scale=2, weights=None, **NETWORKS[name])
    return model, quantized(model, bits=4)


NETWORKS = {
    "edsr": {"blocks": 2, "width": 8},
    "rdn": {"blocks": 1, "layers": 2, "growth": 4, "width": 8},  # concatenations
    "carn_m": {"width": 16},  # layers that run several times
    "idn": {"width": 16, "colours": "y"},  # luma
}


@pytest.mark.parametrize("name", [*NETWORKS, "mixed"])
def test_every_layer_meets_itself(name: str) -> None:
    model, network = mixed() if name == "mixed" else zoo(name)
    which = subject("it", model, network)
    x = torch.rand(1, 1 if model.colours == "y" else 3, 12, 14)
    meter = NoiseMeter()
    distributions, calls = Distributions(), []

    def meet(met: Meeting) -> None:
        calls.append(met.name)
        meter.update(met)
        distributions.update(met)
        assert torch.equal(met.read, met.layer.quantizer.forward(met.came))
        assert torch.equal(
            met.made, met.layer._conv_forward(met.read, met.layer.weight, met.layer.bias)
        )
        assert torch.allclose(met.gave, which.original(met.name)(met.meant), atol=1e-5)
        # Every value that is read is one of its channel's levels.
        levels = levels_of(met.layer.quantizer, met.came)
        for channel in range(0, levels.shape[0], 5):
            values = met.read[0, channel].flatten()
            away = (values[:, None] - levels[channel]).abs().amin(1)
            assert float(away.max()) <= 1e-4 * float(levels[channel].abs().max() + 1)

    distributions.begin_sample()
    walk(which, x, meet)
    assert set(calls) == set(which.layers) == set(meter.found()) <= set(model.places())
    assert (len(calls) > len(which.layers)) == (name == "carn_m")
    first = calls[0]
    seen: list[torch.Tensor] = []
    handle = model.get_submodule(first).register_forward_pre_hook(
        lambda m, x, named: seen.append([*x, *named.values()][0]), with_kwargs=True
    )
    with torch.no_grad():
        model(x)
    handle.remove()
    if name != "carn_m":
        # Nothing is quantized before it: both networks give it the same.
        wanted = sqnr(seen[0], which.fake(first).quantizer(seen[0]))
        assert meter.found()[first].input_db == pytest.approx(wanted, abs=1e-3)
    found = distributions.found()[first]
    assert sum(found.ridges[0].counts) == seen[0][0, 0].numel()
    for box in found.channels:
        values = seen[0][0, int(box.label)].double().numpy()
        assert box.five == pytest.approx(np.quantile(values, [0, 0.25, 0.5, 0.75, 1]), abs=1e-5)
        assert len(box.levels) == 2 ** which.fake(first).act_bits
    spans = [box.five[-1] - box.five[0] for box in found.channels]
    assert spans == sorted(spans)
    if found.universal:
        assert {level for ridge in found.ridges for level in ridge.levels} <= set(found.universal)


def test_levels_of_other_quantizers() -> None:
    x = torch.randn(1, 3, 6, 5) * 2
    uniform = UniformQuantizer.from_range(-2.0, 3.0, 3)
    assert levels_of(uniform, x).shape == (3, 8) and normalised(uniform, x) is None
    selected = SelectedQuantizer(
        [uniform, UniformQuantizer.from_range(-2.0, 3.0, 5)],
        torch.zeros(2, 0),
        torch.tensor([0.0, 1.0]),
        by="layer",
    )
    selected(x)
    assert levels_of(selected, x).shape == (3, 32)
    shifted = OffsetQuantizer(
        uniform.step,
        uniform.lowest,
        bits=3,
        shift=Offsets.from_float(torch.tensor([0.5, 0.0, -0.5])),
        gain=Offsets.from_float(torch.tensor([1.0, 0.0, 0.5])),
    )
    given, levels = as_given(shifted, shifted(x)), levels_of(shifted, x)
    for channel in (0, 2):
        away = (given[0, channel].flatten()[:, None] - levels[channel]).abs().amin(1)
        assert float(away.max()) < 1e-5
        # Back in its own units it is near to what was quantized, where that was not clipped.
        inside = (x[0, channel] > levels[channel, 0]) & (x[0, channel] < levels[channel, -1])
        step = float(levels[channel].diff().max())
        assert float((given - x)[0, channel][inside].abs().max()) <= step / 2 + 1e-5
    assert torch.equal(given[0, 1], torch.zeros(6, 5))


def test_weights(tiny: SRNetwork) -> None:
    network = quantized(tiny, bits=3)
    for name, layer in fake_layers(network).items():
        original = tiny.get_submodule(name).weight
        found = weights_of(layer, original)
        assert sum(found.before) == sum(found.after) == original.numel()
        assert found.moved == 0
        assert found.db == pytest.approx(sqnr(original.detach(), layer.weight), abs=1e-4)
        levels, counts = layer.quantized_weight.levels().unique(return_counts=True)
        place = ((levels - found.low) / found.level_width).long()
        assert [found.after[i] for i in place.tolist()] == counts.tolist()
    weight = layer.quantized_weight
    codes = weight.codes.clone()
    codes.flatten()[0] += 1 if codes.flatten()[0] < 3 else -1
    layer.set_weight(QuantizedWeight(codes, weight.step, weight.zero_point, 3))
    assert weights_of(layer, original).moved == pytest.approx(1 / original.numel())


@pytest.mark.parametrize("make", [quantized, choosing, None], ids=["dfsq", "choosing", "mixed"])
def test_one_layer_alone(tiny: SRNetwork, make: Callable[[SRNetwork], SRNetwork] | None) -> None:
    model, network = mixed() if make is None else (tiny, make(tiny))
    which = subject("it", model, network)
    crops = crops_of(pairs(), 2, size=16, count=2, seed=3)
    found = sensitivities(which, crops)
    assert found.crops == 2 and sum(map(found.share, found.layers)) == pytest.approx(1)
    lr = torch.cat([to_tensor(crop) for _, crop, _ in crops])
    hr = torch.cat([luma(to_levels(crop)) for _, _, crop in crops])[..., 2:-2, 2:-2]

    def levels(other: SRNetwork) -> torch.Tensor:
        with torch.no_grad():
            y = luma(torch.cat([other(x) for x in lr.split(1)]).double().clamp(0, 1) * 255)
        return y[..., 2:-2, 2:-2]

    def squares(x: torch.Tensor) -> torch.Tensor:
        return x.square().mean((1, 2, 3))

    plain = levels(model)
    of_float = squares(plain - hr)
    for name in which.layers:
        # The network as it is, with all other layers put back.
        alone = copy.deepcopy(network)
        replace(
            alone,
            {
                alone.get_submodule(path): which.original(other)
                for other, path in which.layers.items()
                if other != name
            },
        )
        errors = squares(levels(alone) - plain)
        drops = 10 / math.log(10) * errors / of_float
        assert found.layers[name].mse == pytest.approx(float(errors.mean()), rel=1e-3)
        assert found.drop(name) == pytest.approx(float(drops.mean()), rel=1e-3)
    together = squares(levels(network) - plain)
    assert found.together.mse == pytest.approx(float(together.mean()), rel=1e-3)


def test_histograms() -> None:
    values = np.random.default_rng(0).normal(size=(3, 500))
    for found, row in zip(_histograms(values, -1.0, 2.0), values, strict=True):
        assert found.tolist() == np.histogram(row.clip(-1, 2), BINS, (-1, 2))[0].tolist()
    assert _histograms(np.full((2, 7), 5.0), 5.0, 5.0)[:, 0].tolist() == [7, 7]


def test_strange_names(tiny: SRNetwork, tmp_path: Path) -> None:
    """Names of files and pictures may be anything."""
    pytest.importorskip("matplotlib")
    network, odd = quantized(tiny, bits=4), pairs()[:1]
    titles = ["../$up$", "../$up$", "\udcff"]
    report = make_report(
        [subject(title, tiny, network) for title in titles],
        Pictures(odd, odd, "one"),
        crops=1,
        crop_size=12,
        seed=0,
        with_latency=False,
    )
    assert [n.subject.title for n in report.networks] == ["../$up$", "../$up$ (2)", "?"]
    assert write_page(report, tmp_path / "r.html") > 0
    few = replace_fields(
        report,
        networks=tuple(replace_fields(network, distributions={}) for network in report.networks),
    )
    folders = {path.parent.name for path in write_figures(few, tmp_path / "figures")}
    assert folders == {"figures", ".._$up$", ".._$up$ (2)", "_"}


def test_records_and_views(made: Report) -> None:
    four, eight, chose = records(made)
    assert [r["network"] for r in (four, eight, chose)] == ["four", "eight", "choosing"]
    shares = [layer["share_of_error"] for layer in four["layers"]]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1)
    assert 3 < chose["fqr"] < 8 and eight["fqr"] == 8
    assert made.floats == ("float",) * 3
    for view in made.views:
        assert list(view.made) == ["bicubic", "picture", "float", "four", "eight", "choosing"]
        for who, error in view.errors.items():
            ours, theirs = (luma(to_levels(view.made[n]))[0, 0] for n in (who, "float"))
            assert np.allclose(error, (ours - theirs).abs().numpy(), atol=1e-4)
    assert all(m.distributions for m in made.networks)
    (found, _) = made.networks[2].bit_maps
    area = sum((c.right - c.left) * (c.bottom - c.top) for c in found.cells)
    assert area == pytest.approx(30 * 42) and len(found.cells) == len(found.patches.corners) > 4
    assert isinstance(found, BitMap) and 3 <= found.mean <= 8


def test_bundled_pictures_are_those_that_calibration_never_sees() -> None:
    found = bundled_pictures(4)
    assert [(lr.shape, hr.shape) for _, lr, hr in found.measured] == [
        ((106, 48, 3), (424, 192, 3))
    ] * 2
    for (_, _, part), (_, _, whole) in zip(found.measured, found.shown, strict=True):
        assert np.array_equal(part, whole[:424, 448:640])
