"""The drop-in convolution."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ptqsr import PtqsrError, ops
from ptqsr.modules import FakeQuantConv2d, QuantConv2d
from ptqsr.points import UniversalSet
from ptqsr.quantizers import (
    ActivationQuantizer,
    OffsetQuantizer,
    Offsets,
    QuantizedWeight,
    SubsetQuantizer,
    UniformQuantizer,
)

STATIC = ("uniform", "symmetric", "offset")
X = torch.randn(2, 6, 9, 10, generator=torch.Generator().manual_seed(1))


def quantizer(kind: str, channels: int = 6) -> ActivationQuantizer:
    if kind == "uniform":
        return UniformQuantizer.from_range(-3.0, 3.0, 8)
    if kind == "symmetric":  # of 3 bits, 7 levels: what is larger than the range shows the eighth
        lowest = torch.tensor(-3, dtype=torch.int32)
        return UniformQuantizer(torch.tensor(0.4), lowest, bits=3, levels=7)
    if kind == "offset":
        shift, gain = (Offsets.from_float(X[i, :channels, 0, i] + i) for i in range(2))
        step, lowest = torch.tensor(0.4), torch.tensor(-3, dtype=torch.int32)
        return OffsetQuantizer(step, lowest, bits=3, shift=shift, gain=gain)
    universal_set = UniversalSet.preset(kind)
    integers = torch.from_numpy(universal_set.integers).int()
    count = universal_set.count(6)
    picked = integers[torch.linspace(0, len(integers) - 1, count).long()]
    points = picked.expand(channels, -1).contiguous()
    flags = torch.zeros(channels).bool()
    return SubsetQuantizer(points, flags, universal_set=universal_set, bits=6)


def layer(kind: str, **options: object) -> FakeQuantConv2d:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 4, 3, **options)  # type: ignore[arg-type]
    return FakeQuantConv2d(conv, quantizer(kind), QuantizedWeight.from_float(conv.weight, 8))


GEOMETRIES = [
    {"padding": 1},
    {"padding": "same", "dilation": 2},
    {"padding": "valid", "bias": False},
    {"padding": (0, 2), "stride": (2, 1), "groups": 2},
]


@pytest.mark.parametrize("options", GEOMETRIES, ids=str)
@pytest.mark.parametrize("kind", [*STATIC, "dfsq-107", "sq-2word", "int8"])
@torch.no_grad()
def test_close_to_the_fake_layer(kind: str, options: dict[str, object]) -> None:
    fake = layer(kind, **options)
    ours = QuantConv2d.from_fake(fake)
    expected, y = fake(X), ours(X)
    assert y.shape == expected.shape and y.dtype == torch.float32
    if kind in STATIC:
        assert (y - expected).abs().max() < 1e-5
        return
    # Contract 4: half a step of the refolded weights at every tap.
    d = fake.quantizer.universal_set.denominator  # type: ignore[attr-defined]
    mean, scale = ops.normalisation(*ops.channel_stats(X), torch.zeros(6).bool())
    k = ops.subset_encode(X, ours.points, d, mean, scale).float().abs()
    ones = torch.ones_like(fake.weight)
    window = fake._conv_forward(k, ones, None) / d
    half = ops.refold_weights(ours.levels, ours.step, scale, fake.groups)[1] / 2
    assert ((y - expected).abs() <= half[..., None, None] * window + 1e-5).all()


@torch.no_grad()
def test_a_module_like_any_other() -> None:
    ours = QuantConv2d.from_fake(layer("dfsq-107", padding=1))
    network = nn.Sequential(ours, nn.ReLU())
    expected = network(X)
    other = copy.deepcopy(network)
    for tensor in other.state_dict().values():
        if tensor.is_floating_point():
            tensor.zero_()
    assert torch.equal(network(X), expected) and not torch.equal(other(X), expected)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(X), expected)
    assert torch.equal(torch.compile(network, backend="aot_eager", fullgraph=True)(X), expected)
    assert network.to("meta")(X.to("meta")).shape == expected.shape
    assert "subset, 6 bits" in repr(ours)


def test_memory_of_its_own() -> None:
    fake = layer("uniform")
    ours = QuantConv2d.from_fake(fake)
    theirs = {tensor.data_ptr() for tensor in fake.state_dict().values()}
    assert not theirs & {tensor.data_ptr() for tensor in ours.state_dict().values()}
    assert not ours.training or fake.training


@pytest.mark.parametrize(
    "kind, options, words",
    [
        ("dfsq-code", {}, "universal set dfsq-code is not int8"),
        ("dfsq-107", {"padding": 1, "padding_mode": "reflect"}, "padding mode reflect"),
        ("uniform", {"padding": 1, "padding_mode": "circular"}, "padding mode circular"),
    ],
)
def test_refused(kind: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(PtqsrError, match=words) as caught:
        QuantConv2d.from_fake(layer(kind, **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["uniform", "dfsq-107"])
@torch.no_grad()
def test_takes_what_autocast_and_half_networks_give(kind: str, dtype: torch.dtype) -> None:
    ours = QuantConv2d.from_fake(layer(kind, padding=1))
    x = X.to(dtype)
    y, expected = ours(x), ours(x.float())
    assert y.dtype == dtype and torch.equal(y, expected.to(dtype))
    network = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), ours)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(X)
    assert found.dtype == torch.bfloat16
    assert (found.float() - network(X)).abs().max() < 0.1 * network(X).abs().max()
