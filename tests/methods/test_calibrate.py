"""Calibration as users call it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ptqsr
from ptqsr import Config, PtqsrError, models
from ptqsr.evaluation import find_pairs, read_pairs
from ptqsr.images import cut, downscale, list_images
from ptqsr.modules import FakeQuantConv2d
from ptqsr.ops import quantize_given
from ptqsr.quantizers import QuantizedWeight, SubsetQuantizer


def quantized_layers(network: nn.Module) -> dict[str, FakeQuantConv2d]:
    return {n: m for n, m in network.named_modules() if isinstance(m, FakeQuantConv2d)}


@pytest.mark.parametrize("method", ["dfsq", "minmax", "percentile"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_method_and_width(
    tiny: models.SRNetwork, pictures: list[np.ndarray], method: str, bits: int
) -> None:
    before = {n: t.clone() for n, t in tiny.state_dict().items()}
    quantized = ptqsr.calibrate(tiny, pictures, Config(method=method, bits=bits))
    layers = quantized_layers(quantized)
    assert list(layers) == [f"body.{i}.body.{j}" for i in (0, 1) for j in (0, 2)]
    for layer in layers.values():
        assert (layer.weight_bits, layer.act_bits) == (bits, bits)
        for kernel in layer.weight:
            assert len(kernel.unique()) <= 1 << bits
    x = torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        error = (quantized(x) - tiny(x)).abs().max()
    assert 0 < error < (0.3, 0.05, 0.01)[(2, 4, 8).index(bits)]
    # The float network is as it was.
    assert all(torch.equal(before[n], t) for n, t in tiny.state_dict().items())
    assert not quantized_layers(tiny)


def test_activations_take_two_to_the_bits_values(
    tiny: models.SRNetwork, pictures: list[np.ndarray]
) -> None:
    quantized = ptqsr.calibrate(tiny, pictures, Config(bits=3, selector="optimal"))
    layer = quantized_layers(quantized)["body.0.body.2"]
    x = torch.randn(2, 16, 12, 13).relu()
    y = layer.quantizer(x)
    for sample in y:
        for channel in sample:
            assert len(channel.unique()) <= 8
    assert isinstance(layer.quantizer, SubsetQuantizer)
    assert layer.quantizer.nonnegative.all()  # it follows a ReLU
    assert not quantized_layers(quantized)["body.0.body.0"].quantizer.nonnegative.all()
    mean = torch.zeros(2, 16)
    reference = quantize_given(x, layer.quantizer.points, 104, mean, x.amax((2, 3)))
    assert torch.equal(y, reference)


@pytest.mark.parametrize("selector", ["kmeans", "optimal"])
def test_same_seed_same_bits(
    tiny: models.SRNetwork, pictures: list[np.ndarray], selector: str
) -> None:
    results = []
    for _ in range(2):
        net = ptqsr.calibrate(tiny, pictures, Config(selector=selector, seed=3))
        results.append([layer.quantizer.points for layer in quantized_layers(net).values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_include_and_exclude(tiny: models.SRNetwork, pictures: list[np.ndarray]) -> None:
    config = Config(method="minmax", exclude=("*",), include=("body.1.*", "tail.0.0"))
    assert set(quantized_layers(ptqsr.calibrate(tiny, pictures, config))) == {
        "body.1.body.0",
        "body.1.body.2",
        "tail.0.0",
    }
    with pytest.raises(PtqsrError, match=r"'head\.9' matches none"):
        ptqsr.calibrate(tiny, pictures, Config(include=("head.9",)))
    with pytest.raises(PtqsrError, match="no layer is left"):
        ptqsr.calibrate(tiny, pictures, Config(exclude=("*",)))


def test_images_as_path_array_tensor_and_generator(
    tiny: models.SRNetwork, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    from PIL import Image

    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    tensors = [torch.from_numpy(p.transpose(2, 0, 1).copy()) for p in pictures]
    forms = [
        pictures,
        tmp_path,
        sorted(tmp_path.iterdir()),
        (t for t in tensors),
        torch.stack(tensors),
    ]
    found = []
    for images in forms:
        net = ptqsr.calibrate(tiny, images, Config(selector="optimal"))
        found.append([layer.quantizer.points for layer in quantized_layers(net).values()])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


class Recursive(nn.Module):
    """One convolution used twice, registered under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.a = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")
        self.b = self.a

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.b(self.a(self.first(x))))


def test_a_module_that_occurs_twice_is_replaced_in_both_places(
    pictures: list[np.ndarray],
) -> None:
    torch.manual_seed(0)
    net = models.wrap(Recursive(), scale=1)
    net.quantized_layers = ("module.a",)
    quantized = ptqsr.calibrate(net, pictures, Config(bits=8))
    assert quantized.module.a is quantized.module.b
    assert isinstance(quantized.module.a, FakeQuantConv2d)
    x = torch.rand(1, 3, 8, 8)
    assert (quantized(x) - net(x)).abs().max() < 0.01


def test_constant_pictures_and_one_pixel(tiny: models.SRNetwork) -> None:
    for picture in (np.zeros((8, 8, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)):
        for method in ("dfsq", "minmax", "percentile"):
            net = ptqsr.calibrate(tiny, picture, Config(method=method))
            assert net(torch.rand(1, 3, 5, 5)).isfinite().all()


def test_unsound_networks_are_named(tiny: models.SRNetwork, pictures: list[np.ndarray]) -> None:
    with torch.no_grad():
        tiny.body[1].body[0].weight[0] = torch.nan
    with pytest.raises(PtqsrError, match=r"layer body\.1\.body\.0: .*weight holds NaN"):
        ptqsr.calibrate(tiny, pictures)
    with torch.no_grad():
        tiny.body[1].body[0].weight[0] = 0
        tiny.tail[1].bias[0] = torch.nan
    with pytest.raises(PtqsrError, match=r"layer tail\.1: tail\.1\.bias holds NaN"):
        ptqsr.calibrate(tiny, pictures)
    with torch.no_grad():
        tiny.tail[1].bias[0] = 0
        tiny.body[0].body[0].bias[0] = 3e38
        tiny.body[0].body[0].weight[0] = 3e38
    with pytest.raises(PtqsrError, match=r"layer body\.0\.body\.2: its input holds NaN or Inf"):
        ptqsr.calibrate(tiny, pictures)


def test_plain_modules_are_refused() -> None:
    with pytest.raises(PtqsrError, match=r"Conv2d is no network of ptqsr; wrap it"):
        ptqsr.evaluate(nn.Conv2d(3, 3, 1), [])


class Standardised(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


def test_other_convolutions_are_not_taken_for_plain_ones(pictures: list[np.ndarray]) -> None:
    layers = [nn.Conv2d(3, 4, 1), Standardised(4, 4, 1), nn.Conv2d(4, 3, 1)]
    with pytest.raises(PtqsrError, match=r"module\.1: Standardised computes something else"):
        ptqsr.calibrate(models.wrap(nn.Sequential(*layers), scale=1), pictures)


def test_a_wrong_scale_is_seen(pictures: list[np.ndarray]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1))
    with pytest.raises(PtqsrError, match="is its scale really 4"):
        ptqsr.calibrate(models.wrap(net, scale=4), pictures)


def test_works_in_inference_mode(tiny: models.SRNetwork, pictures: list[np.ndarray]) -> None:
    with torch.inference_mode():
        ptqsr.calibrate(tiny, pictures, Config(method="minmax"))


def test_calibrating_twice_is_refused(tiny: models.SRNetwork, pictures: list[np.ndarray]) -> None:
    quantized = ptqsr.calibrate(tiny, pictures, Config(method="minmax"))
    with pytest.raises(PtqsrError, match="quantized already"):
        ptqsr.calibrate(quantized, pictures)


def test_wide_bits_say_so(
    tiny: models.SRNetwork, pictures: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        ptqsr.calibrate(tiny, pictures, Config(bits=8))
    assert "107 levels, not 256" in caplog.text


def test_the_universal_set_that_nobody_names() -> None:
    """The paper's, which has too few values for dfsq+ with 7 bits or more."""
    for bits in range(2, 9):
        assert Config(bits=bits).body.universal_set == "dfsq-107"
        expected = "int8" if bits > 6 else "dfsq-107"
        config = Config(method="dfsq+", weight_bits=4, act_bits=bits)
        assert config.body.universal_set == expected
        assert Config(method="dfsq+").rule(4, bits).universal_set == expected
    assert Config(method="dfsq+", bits=8, universal_set="sq-2word").body.universal_set == "sq-2word"


def test_config() -> None:
    config = Config(bits=6, act_bits=3, include=["a"], method="minmax")
    assert (config.weight_bits, config.act_bits, config.include) == (6, 3, ("a",))
    assert Config.from_json(config.to_json()) == config
    for wrong in (
        dict(bits=1),
        dict(bits=9),
        dict(weight_bits=0),
        dict(act_bits=4.0),
        dict(percentile=50),
        dict(percentile=False),
        dict(seed=True),
        dict(include=5),
        dict(exclude=[3]),
        dict(selector=3),
    ):
        with pytest.raises(PtqsrError, match=next(iter(wrong))):
            Config(**wrong)
    for text in ("{", "[]", '{"version": 2}', '{"version": 1, "colour": 3}'):
        with pytest.raises(PtqsrError, match="configuration"):
            Config.from_json(text)


def test_the_selector_that_nobody_names() -> None:
    """The paper's; dfsq+ has no other than the exact one, whatever older files say."""
    assert Config().selection == "kmeans" and Config(method="dfsq+").selection == "optimal"
    assert replace(Config(), method="dfsq+") == Config(method="dfsq+")
    assert Config(method="dfsq+", selector="optimal").selection == "optimal"
    older = '{"version": 1, "method": "dfsq+", "selector": "kmeans"}'
    assert Config.from_json(older) == Config(method="dfsq+")
    with pytest.raises(PtqsrError, match="selector is 'kmeans'; dfsq\\+ chooses points exactly"):
        Config(method="dfsq+", selector="kmeans")


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_weights(bits: int) -> None:
    """DFSQ, Eqs. 6-7: 0 is a level, the error is at most half a step, zero kernels survive."""
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3, 3)
    weight[0] = 0
    weight[1] = weight[1].abs()
    weight[2] = -weight[2].abs()
    quantized = QuantizedWeight.from_float(weight, bits)
    assert quantized.codes.min() >= -(1 << (bits - 1))
    assert quantized.codes.max() <= (1 << (bits - 1)) - 1
    again = quantized.dequantize()
    step = quantized.step.view(-1, 1, 1, 1)
    assert ((again - weight).abs() <= step * 0.5001 + 1e-7).all()
    assert (again[0] == 0).all()
    assert (QuantizedWeight.from_float(weight * 0, bits).dequantize() == 0).all()


@pytest.mark.shared
def test_imdn_on_set5(shared: Path) -> None:
    """The authors' IMDN x4: DFSQ's gain over MinMax at 4 bits, and its loss at 6."""
    network = models.load(shared / "weights" / "IMDN_x4.pth")
    pairs = list(read_pairs(find_pairs(shared / "data" / "Set5", 4), 4))
    full = ptqsr.evaluate(network, pairs).psnr
    assert full == pytest.approx(32.21, abs=0.02)
    crops, _ = cut(list_images(shared / "data" / "train"), size=192, count=16, held_out=0, seed=0)
    lr = [downscale(crop, 4)[0] for crop in crops]

    def psnr(method: str, bits: int) -> float:
        config = Config(method=method, bits=bits, selector="optimal")
        return ptqsr.evaluate(ptqsr.calibrate(network, lr, config), pairs).psnr

    assert psnr("dfsq", 4) >= psnr("minmax", 4) + 4.5
    assert psnr("dfsq", 6) >= full - 0.2
