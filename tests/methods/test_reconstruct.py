"""Block reconstruction: brecq, qdrop, and the last step of dfsq+."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from helpers import photograph, tiny_edsr
from upscaling.networks import lively

import ptqsr
from ptqsr import Config, models
from ptqsr.calibration import ValueHistogram
from ptqsr.errors import PtqsrError
from ptqsr.methods import learning
from ptqsr.methods.brecq import best_range
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import UniformQuantizer

PICTURES = [photograph(14, 16, seed) for seed in range(5)]


def config(method: str, iterations: int, **more: object) -> Config:
    return Config(
        method=method, bits=3, iterations=iterations, reconstruct=method == "dfsq+", **more
    )


def layers(network: models.SRNetwork) -> Mapping[str, FakeQuantConv2d]:
    return {n: m for n, m in network.named_modules() if isinstance(m, FakeQuantConv2d)}


@pytest.mark.parametrize(
    "variant, method",
    [*(("edsr", method) for method in ("brecq", "qdrop", "dfsq+")), ("carn_m", "brecq")],
)
def test_blocks_get_closer_than_by_rounding_to_nearest(variant: str, method: str) -> None:
    network = lively(variant, 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = ptqsr.calibrate(network, PICTURES, config(method, 110))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    blocks = {"edsr": ["body.0", "body.1"], "carn_m": ["b1.b1", "b2.b1", "b3.b1"]}[variant]
    assert [record["block"] for record in found.reconstruction] == blocks
    json.dumps(found.reconstruction)
    for record in found.reconstruction:
        assert record["iterations"] == 110
        assert record["end"]["held_out"] < record["nearest"]["held_out"]
        assert record["end"]["training"] < record["nearest"]["training"]
        if method == "dfsq+":
            assert record["end"]["held_out"] <= record["start"]["held_out"]
        else:
            assert record["nearest"] == record["start"] and record["kept"] == 110
    for layer in layers(found).values():
        layer.quantized_weight.check()
        layer.quantizer.check(layer.in_channels)
        assert torch.equal(layer.weight, layer.quantized_weight.dequantize())
        assert layer.weight_bits == layer.act_bits == 3


def test_no_iterations_round_to_nearest() -> None:
    """In the ranges from which brecq learns, and with any number of pictures."""
    network = lively("edsr", 2)
    found = ptqsr.calibrate(network, PICTURES[:1], config("brecq", 0))
    assert not found.reconstruction
    for name, layer in layers(found).items():
        weight = network.get_submodule(name).weight
        step, lowest = (t.view(-1, 1, 1, 1) for t in (layer.weight_step, layer.lowest_level))
        levels = (weight / step).round().clamp(lowest, lowest + 7)
        assert torch.equal(layer.weight, levels * step)


def test_what_harms_held_out_pictures_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    plus = ptqsr.calibrate(tiny_edsr(), PICTURES, Config(method="dfsq+", bits=3))
    monkeypatch.setattr(learning, "RATES", dict.fromkeys(learning.RATES, 5.0))
    found = ptqsr.calibrate(tiny_edsr(), PICTURES, config("dfsq+", 60), held_out=PICTURES[:1])
    assert all(record["kept"] == 0 for record in found.reconstruction)
    assert all(record["end"] == record["start"] for record in found.reconstruction)
    for name, tensor in plus.state_dict().items():
        assert torch.equal(tensor, found.state_dict()[name])


def test_a_block_that_got_worse_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(learning, "RATES", dict.fromkeys(learning.RATES, 5.0))
    with caplog.at_level(logging.WARNING, logger="ptqsr"):
        ptqsr.calibrate(tiny_edsr(), PICTURES, config("brecq", 5))
    assert "block body.0: its error on held-out pictures is" in caplog.text


def test_under_no_grad_and_inference_mode() -> None:
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = ptqsr.calibrate(tiny_edsr(), PICTURES[:2], config("brecq", 2))
        assert len(found.reconstruction) == 2


def test_edges_stay() -> None:
    """Edges keep their whole range; progress ends where it should."""
    seen: list[tuple[str, int, int]] = []
    found = ptqsr.calibrate(
        tiny_edsr(),
        PICTURES[:3],
        config("brecq", 4, edges=8),
        progress=lambda *given: seen.append(given),
    )
    static = ptqsr.calibrate(tiny_edsr(), PICTURES[:3], Config(method="minmax", bits=3, edges=8))
    learned = layers(found)
    for name, layer in layers(static).items():
        body = name.count("body") == 2
        assert bool(learned[name].quantizer.step == layer.quantizer.step) != body
    assert seen[-1] == ("blocks", 4 * len(found.reconstruction), 4 * len(found.reconstruction))


def test_round_trip_and_deployment(tmp_path: Path) -> None:
    quantized = ptqsr.calibrate(lively("imdn", 2), PICTURES, config("brecq", 10))
    path = tmp_path / "net.safetensors"
    ptqsr.save(quantized, path)
    again = ptqsr.load(path)
    x = torch.rand(2, 3, 11, 13)
    with torch.no_grad():
        wanted = quantized(x)
        assert torch.equal(again(x), wanted)
        assert again.calibration == quantized.calibration
        assert (ptqsr.deploy(again)(x) - wanted).abs().max() < 0.05 * wanted.std()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_best_range(bits: int) -> None:
    """Outliers are clipped at few bits; the loss is never above the whole range's."""
    g = torch.Generator().manual_seed(bits)
    x = torch.randn(1, 1, 100, 100, generator=g)
    x[0, 0, 0, 0] = 30
    histogram = ValueHistogram(float(x.min()), float(x.max()))
    histogram.update(x)

    def loss(low: float, high: float) -> float:
        return float((UniformQuantizer.from_range(low, high, bits)(x) - x).square().sum())

    low, high = best_range(histogram, bits)
    assert low <= 0 <= high
    assert loss(low, high) <= loss(float(x.min()), float(x.max())) * 1.001
    if bits < 8:
        assert high < 10 and loss(low, high) < 0.8 * loss(float(x.min()), float(x.max()))
    constant = ValueHistogram(0.0, 0.0)
    constant.update(torch.zeros(1, 1, 2, 2))
    assert best_range(constant, bits) == (0.0, 0.0)


def test_options_out_of_range() -> None:
    with pytest.raises(PtqsrError, match="reconstruct is True; it is for method dfsq"):
        Config(method="brecq", reconstruct=True)
    for wrong in (-1, 2.5, True, "9"):
        with pytest.raises(PtqsrError, match=r"iterations is .*; it must be a whole number"):
            Config(method="brecq", iterations=wrong)  # type: ignore[arg-type]
    with pytest.raises(PtqsrError, match="iterations is 0: nothing would be reconstructed"):
        config("dfsq+", 0)
    assert Config.from_json(config("dfsq+", 7).to_json()) == config("dfsq+", 7)
    assert Config.from_json('{"version": 1, "method": "dfsq+"}').reconstruct is False
