"""The convolutions outside the papers' list, at 8 bits: `Config(edges=8)`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import photograph
from torch import nn

import ptqsr
from ptqsr import Config, PtqsrError, checkpoint, models
from ptqsr.calibration import cards, readings
from ptqsr.evaluation import cost
from ptqsr.images import downscale
from ptqsr.modules import FakeQuantConv2d, quantizable
from ptqsr.quantizers import SubsetQuantizer, UniformQuantizer
from ptqsr.upscaling import Planner

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = ("dfsq", "minmax", "percentile")
EDGES = ["head.0", "body.2", "tail.0.0", "tail.1"]


def quantized_layers(network: nn.Module) -> dict[str, FakeQuantConv2d]:
    return {n: m for n, m in network.named_modules() if isinstance(m, FakeQuantConv2d)}


def subset(layer: FakeQuantConv2d) -> SubsetQuantizer:
    assert isinstance(layer.quantizer, SubsetQuantizer)
    return layer.quantizer


@pytest.mark.parametrize("method", METHODS)
def test_bits_of_every_layer(
    tiny: models.SRNetwork, pictures: list[np.ndarray], method: str
) -> None:
    """Edges have 8 bits, and the body is bit for bit what it is without them."""
    config = Config(method=method, weight_bits=3, act_bits=5, selector="optimal")
    body = quantized_layers(ptqsr.calibrate(tiny, pictures, config))
    with_edges = quantized_layers(ptqsr.calibrate(tiny, pictures, replace(config, edges=8)))
    assert sorted(with_edges) == sorted([*body, *EDGES])
    for name in EDGES:
        assert (with_edges[name].weight_bits, with_edges[name].act_bits) == (8, 8)
    for name, layer in body.items():
        other = with_edges[name]
        assert (other.weight_bits, other.act_bits) == (3, 5)
        assert all(
            torch.equal(a, b)
            for a, b in zip(layer.state_dict().values(), other.state_dict().values(), strict=True)
        )


def test_universal_sets(tiny: models.SRNetwork, pictures: list[np.ndarray]) -> None:
    config = Config(bits=4, selector="optimal", edges=8)
    layers = quantized_layers(ptqsr.calibrate(tiny, pictures, config))
    for name, layer in layers.items():
        assert subset(layer).universal_set.name == ("int8" if name in EDGES else "dfsq-107")
        assert subset(layer).points.shape[1] == (255 if name in EDGES else 16)
    assert subset(layers["tail.1"]).points[0].tolist() == list(range(-127, 128))


def test_what_stays_in_floating_point(pictures: list[np.ndarray]) -> None:
    """Attention, which reads one value a channel; transposed convolutions; what is excluded."""
    imdn = models.build("imdn", scale=2, weights=None, blocks=1, width=16)
    found = quantizable(imdn, edges=True)
    assert [name for name in ("fea_conv", "c.0", "LR_conv", "upsampler.0") if name in found]
    left = {n for n, m in imdn.named_modules() if isinstance(m, nn.Conv2d)} - found.keys()
    assert left == {"IMDB1.cca.conv_du.0", "IMDB1.cca.conv_du.2"}
    included = ptqsr.calibrate(
        imdn, pictures, Config(method="minmax", include=("*.cca.*",), edges=8)
    )
    assert quantized_layers(included)["IMDB1.cca.conv_du.0"].act_bits == 4
    idn = models.build("idn", scale=2, weights=None, width=16)
    quantized = ptqsr.calibrate(
        idn, pictures, Config(bits=8, exclude=("conv1", "conv3_1"), edges=8)
    )
    assert type(quantized.upsample) is nn.ConvTranspose2d
    assert type(quantized.conv1) is type(quantized.conv3_1) is nn.Conv2d
    assert {f"down{i}" for i in range(1, 5)} | {"conv2"} < quantized_layers(quantized).keys()


class TwoReaders(nn.Module):
    """`a` of the body and the edges `b`, `c` read one tensor; `tail` a concatenation with it."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        return self.tail(torch.cat((self.a(x) + self.b(x) + self.c(x), x), dim=1))


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_has_a_quantizer_for_the_readers_of_each_rule(
    pictures: list[np.ndarray], method: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = models.wrap(TwoReaders(), scale=1)
    network.quantized_layers = ("module.a",)
    quantized = ptqsr.calibrate(network, pictures, Config(method=method, bits=4, edges=8))
    net = quantized.module
    assert net.b.quantizer is net.c.quantizer is not net.a.quantizer
    assert (net.a.act_bits, net.b.act_bits) == (4, 8)
    if method == "dfsq":
        assert net.tail.quantizer.parts[1] is net.b.quantizer
    ptqsr.save(quantized, tmp_path / "own.safetensors")
    again = ptqsr.load(tmp_path / "own.safetensors", module=models.wrap(TwoReaders(), scale=1))
    x = torch.rand(2, 3, 6, 7)
    assert torch.equal(quantized(x), again(x))


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_the_head_alone_reads_the_picture(name: str) -> None:
    size = {"blocks": 2, "layers": 2, "growth": 8} if name == "rdn" else {}
    network = models.build(name, scale=2, weights=None, width=16, **size)
    layers = quantizable(network, edges=True)
    found = readings(network, layers, torch.rand(1, 3, 8, 9), per_channel=True)
    heads = [part for part in found.parts if part.of_picture]
    assert [part.channels for part in heads] == [3]
    assert heads[0].sightings[0].layer == next(iter(layers))


def test_pictures_keep_their_mean_and_relu_its_zero(pictures: list[np.ndarray]) -> None:
    """IDN reads [0, 1] as it is: with mean 0, half of the levels would be idle."""
    torch.manual_seed(0)
    carn = models.build("carn_m", scale=2, weights=None, width=16)
    layers = quantized_layers(ptqsr.calibrate(carn, pictures, Config(bits=8, edges=8)))
    assert subset(layers["exit"]).nonnegative.all()  # reads a ReLU's output
    idn = models.build("idn", scale=2, weights=None, width=16)
    layers = quantized_layers(ptqsr.calibrate(idn, pictures, Config(bits=8, edges=8)))
    assert not subset(layers["conv1"]).nonnegative.any()


def test_cards() -> None:
    rgb = cards(torch.rand(2, 3, 20, 33))
    assert len(rgb) == 9 and all(card.shape == (1, 3, 20, 33) for card in rgb)
    corners = {tuple(card[0, :, 0, 0].tolist()) for card in rgb[:8]}
    assert len(corners) == 8 and all(card.unique(dim=3).shape[3] == 1 for card in rgb[:8])
    blocks = rgb[8].flatten(2)[0].T.unique(dim=0)
    assert {tuple(row) for row in blocks.tolist()} == corners
    luma = cards(torch.rand(1, 1, 16, 16))
    assert [float(card.mean()) for card in luma] == [0, 1, 0.5]


@pytest.mark.parametrize("method", ["minmax", "percentile"])
@pytest.mark.parametrize("name", ["edsr", "imdn"])
def test_static_ranges_hold_black_and_white(name: str, method: str) -> None:
    """Calibrated on dull pictures alone, the head's range is what [0, 1] gives."""
    torch.manual_seed(0)
    network = models.build(name, scale=2, weights=None, blocks=1, width=16)
    dull = [photograph(16, 16) // 8 + 100]
    quantized = ptqsr.calibrate(network, dull, Config(method=method, edges=8))
    quantizer = next(iter(quantized_layers(quantized).values())).quantizer
    assert isinstance(quantizer, UniformQuantizer)
    span = 1.0 if name == "imdn" else 255 * (1 + 0.4488 - 0.4040)  # its mean colour is subtracted
    assert float(quantizer.step) == pytest.approx(span / 255)
    for level in (0.0, 0.5, 1.0):
        x = torch.full((1, 3, 4, 4), level)
        if name == "edsr":
            x = network.sub_mean(255 * x)
        assert (quantizer(x) - x).abs().max() <= quantizer.step / 2 * 1.001
    if name == "imdn":  # every level of an 8-bit picture is one of the quantizer's
        x = (torch.arange(256) / 255).view(1, 1, 16, 16)
        assert torch.allclose(quantizer(x), x, atol=1e-6)


@pytest.fixture(scope="module")
def edsr() -> models.SRNetwork:
    return models.build("edsr", scale=4)


@pytest.mark.parametrize("method, worst, bias", [("dfsq", 3, 0.6), ("minmax", 8, 1.5)])
def test_black_white_grey_and_ramps(
    edsr: models.SRNetwork, method: str, worst: float, bias: float
) -> None:
    """The bundled EDSR, edges alone: errors in grey levels, on pictures unlike the calibration's.

    Clipping would show as a bias. Percentile's edges are MinMax's.
    """
    dull = [photograph(24, 24, seed) // 2 + 60 for seed in range(2)]
    body = ("body.*.body.*",)
    config = Config(method=method, bits=8, exclude=body, edges=8)
    quantized = ptqsr.calibrate(edsr, dull, config)
    assert len(quantized_layers(quantized)) == 5
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 16, 32).contiguous()
    flat = [torch.full((1, 3, 16, 16), level) for level in (0.0, 0.5, 1.0)]
    step = torch.zeros(1, 3, 16, 16)
    step[..., 8:] = 1
    for x in (*flat, ramp, step):
        with torch.no_grad():
            error = 255 * (quantized(x) - edsr(x))
        assert error.abs().max() < worst and error.mean().abs() < bias
    if method == "minmax":
        other = ptqsr.calibrate(edsr, dull, Config(method="percentile", exclude=body, edges=8))
        assert torch.equal(other(step), quantized(step))


def test_little_is_lost(edsr: models.SRNetwork) -> None:
    picture = photograph(128, 128, 7)
    pairs = [(downscale(picture, 4)[0], picture)]
    crops = [downscale(photograph(96, 96, seed), 4)[0] for seed in range(4)]

    def psnr(edges: int | None) -> float:
        config = Config(bits=8, edges=edges)
        return ptqsr.evaluate(ptqsr.calibrate(edsr, crops, config), pairs).psnr

    assert psnr(8) >= psnr(None) - 0.05


@pytest.mark.parametrize("name", ["edsr", "imdn", "idn", "carn_m"])
@pytest.mark.parametrize("method", METHODS)
def test_round_trip(tmp_path: Path, pictures: list[np.ndarray], name: str, method: str) -> None:
    torch.manual_seed(1)
    size = {"blocks": 1} if name in ("edsr", "imdn") else {}
    network = models.build(name, scale=2, weights=None, width=16, **size)
    config = Config(method=method, weight_bits=3, act_bits=4, selector="optimal", edges=8)
    quantized = ptqsr.calibrate(network, pictures, config)
    path = tmp_path / "net.safetensors"
    ptqsr.save(quantized, path)
    again = ptqsr.load(path)
    for shape in ((2, 3, 7, 9), (1, 3, 1, 1)):
        x = torch.rand(shape)
        assert torch.equal(quantized(x), again(x))
    assert again.calibration == config
    assert cost(again) == cost(quantized)
    bits = {n: (m.weight_bits, m.act_bits) for n, m in quantized_layers(quantized).items()}
    assert bits == {n: (m.weight_bits, m.act_bits) for n, m in quantized_layers(again).items()}


def test_checkpoints_from_before_load(
    tmp_path: Path, tiny: models.SRNetwork, pictures: list[np.ndarray]
) -> None:
    """Their configuration has no `edges`."""
    quantized = ptqsr.calibrate(tiny, pictures, Config(method="minmax"))
    path = tmp_path / "old.safetensors"
    ptqsr.save(quantized, path)
    manifest, tensors = checkpoint.read(path)
    assert manifest["config"].pop("edges") is None
    text = json.dumps(manifest)
    metadata = {"format": "ptqsr", "version": "2", "manifest": text}
    metadata["sha256"] = checkpoint._digest(text, tensors)
    checkpoint.save_file(tensors, path, metadata)
    again = ptqsr.load(path)
    x = torch.rand(1, 3, 6, 6)
    assert torch.equal(quantized(x), again(x)) and again.calibration == Config(method="minmax")


def test_cost_by_hand() -> None:
    net = models.wrap(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1, groups=4),
            nn.Conv2d(8, 12, 1),
            nn.PixelShuffle(2),
        ),
        scale=2,
    )
    assert net.quantized_layers == ("module.1",)
    config = Config(weight_bits=4, act_bits=6, edges=8)
    spent = cost(ptqsr.calibrate(net, torch.rand(3, 6, 6), config), height=12, width=10)
    pixels, sizes = 6 * 5, (3 * 8 * 9, 2 * 8 * 9, 8 * 12)
    assert [layer.macs for layer in spent.layers] == [pixels * size for size in sizes]
    assert spent.bitops == 2 * pixels * (sizes[0] * 64 + sizes[1] * 24 + sizes[2] * 64)
    assert spent.listed_bitops == 2 * pixels * sizes[1] * 24 / 1024
    biases = 8 + 8 + 12
    weight_bits = sizes[0] * 8 + sizes[1] * 4 + sizes[2] * 8
    assert spent.storage == biases + weight_bits / 32
    # A step and a zero point for every kernel; of every channel that is read, its points and flag.
    quantizers = 3 * (255 * 8 + 1) + 8 * (64 * 8 + 1) + 8 * (255 * 8 + 1)
    bits = 32 * biases + weight_bits + 48 * (8 + 8 + 12) + quantizers
    assert spent.storage_bytes == -(-bits // 8)
    assert spent.fqr == 6
    assert [layer.in_fqr for layer in spent.layers] == [False, True, False]


def test_included_layers_count_as_body(tiny: models.SRNetwork, pictures: list[np.ndarray]) -> None:
    config = Config(method="minmax", bits=4, include=("tail.1",), edges=8)
    spent = cost(ptqsr.calibrate(tiny, pictures, config))
    assert {layer.name: layer.act_bits for layer in spent.layers}["tail.1"] == 4
    assert spent.fqr == 4 and sum(layer.in_fqr for layer in spent.layers) == 5


def test_configurations() -> None:
    config = Config(bits=4, edges=8)
    assert Config.from_json(config.to_json()) == config
    assert Config.from_json('{"version": 1, "method": "minmax"}').edges is None
    for wrong in (4, 0, 16, True, 8.0, "8"):
        with pytest.raises(PtqsrError, match=r"edges is .*; it must be 8") as error:
            Config(edges=wrong)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)


def test_what_enlarges_may_depend_on_the_whole_picture(
    tiny: models.SRNetwork, pictures: list[np.ndarray]
) -> None:
    """DFSQ's statistics do, so that tiles of the part that enlarges are no longer exact."""
    for method in ("minmax", "dfsq"):
        config = Config(method=method, selector="optimal", edges=8)
        quantized = ptqsr.calibrate(tiny, pictures, config)
        plan = Planner(quantized).plan(200, 300)
        assert plan.exact and (plan.tile is None) == (method == "dfsq")
    with pytest.raises(PtqsrError, match="the last layers depend on statistics"):
        ptqsr.upscale(quantized, pictures[0], tile=8)
