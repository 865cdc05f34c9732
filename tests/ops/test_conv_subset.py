"""subset_conv2d: contracts 2 to 4 of the design, against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptqsr import ops
from ptqsr.points import UniversalSet

from .conv_cases import CASES, Case, levels_of, seeded

EPS = torch.finfo(torch.float32).eps
INTEGERS = torch.from_numpy(UniversalSet.preset("dfsq-107").integers).int()
D = 104


def arguments(case: Case, levels: int = 16, weight_bits: int = 4) -> dict[str, Any]:
    """What a layer gives: signed and non-negative channels of many magnitudes."""
    g = seeded(case)
    channels, out_channels = case.x[1], case.weight[0]
    x = torch.randn(case.x, generator=g) * torch.logspace(-2, 2, channels).view(-1, 1, 1) + 0.3
    nonnegative = torch.arange(channels) % 2 == 1
    x = torch.where(nonnegative.view(-1, 1, 1), x.relu(), x)
    pick = torch.rand(channels, len(INTEGERS), generator=g).argsort(1)[:, :levels]
    mean, scale = ops.normalisation(*ops.channel_stats(x), nonnegative)
    return dict(
        x=[x],
        points=INTEGERS[pick].sort(1)[0],
        mean=mean,
        scale=scale,
        denominator=D,
        levels=levels_of(weight_bits, case.weight, g),
        step=torch.rand(out_channels, generator=g) * 0.1,
        bias=torch.randn(out_channels, generator=g),
        **dict(zip(("stride", "padding", "dilation", "groups"), case.geometry, strict=True)),
    )


def codes(a: dict[str, Any]) -> torch.Tensor:
    return ops.subset_encode(a["x"][0], a["points"], D, a["mean"], a["scale"])


@pytest.mark.parametrize("weight_bits", [2, 4, 8])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_near_fake_quantization(case: Case, weight_bits: int) -> None:
    """Contract 4: off by half a step of the refolded weights at every tap, and by rounding."""
    a = arguments(case, weight_bits=weight_bits)
    y = ops.subset_conv2d(**a)[0].double()
    k = codes(a).double()
    s, m = a["scale"].double()[..., None, None], a["mean"].double()[..., None, None]
    w = (a["levels"].float() * a["step"].view(-1, 1, 1, 1)).double()
    exact = case.conv(k * s / D + m, w) + a["bias"].double().view(-1, 1, 1)
    window = case.conv(k.abs(), torch.ones_like(w))
    out_scale = ops.refold_weights(a["levels"], a["step"], a["scale"], case.groups)[1].double()
    weight_error = out_scale[..., None, None] / 2 * window / D
    magnitudes = case.conv(k.abs() * s / D, w.abs()) + case.conv(m.abs().expand_as(k), w.abs())
    magnitudes += weight_error + a["bias"].double().abs().view(-1, 1, 1)
    error, bound = (y - exact).abs(), weight_error * (1 + 1e-6) + 4 * EPS * magnitudes
    worst = (error - bound).argmax()
    assert (error <= bound).all(), (error.view(-1)[worst], bound.view(-1)[worst])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_up_to_the_integer_result_bit_for_bit(case: Case) -> None:
    """Contract 2, sample by sample, with int_conv2d; contract 3 for the mean term."""
    a = {**arguments(case), "bias": None}
    a["mean"] = torch.zeros_like(a["mean"])
    y = ops.subset_conv2d(**a)[0]
    k = codes(a)
    weight, out_scale = ops.refold_weights(a["levels"], a["step"], a["scale"], case.groups)
    for n in range(len(k)):
        acc = ops.int_conv2d(k[n : n + 1], weight[n], *case.geometry)[0].numpy()
        factor = out_scale[n].numpy() / np.float32(D)
        expected = acc.astype(np.float32) * factor[:, None, None]
        assert expected.dtype == np.float32 and np.array_equal(y[n].numpy(), expected)


def test_order_of_the_epilogue() -> None:
    case = CASES[0]
    a = arguments(case)
    plain = ops.subset_conv2d(**a)[0]
    assert plain.is_contiguous(memory_format=torch.channels_last)
    residual = torch.randn_like(plain) * plain.std()
    slopes = torch.tensor([0.25, -1.0, 0.0, 2.0])
    for slope in (slopes[:1], slopes):
        y = ops.subset_conv2d(**a, activation="leaky", slope=slope, residual=residual)[0]
        leaky = torch.where(plain > 0, plain, plain * slope.view(-1, 1, 1))
        assert torch.equal(y, leaky + residual)
    y = ops.subset_conv2d(**a, activation="relu", residual=residual, last_activation="relu")[0]
    assert torch.equal(y, (plain.relu() + residual).relu())
    y = ops.subset_conv2d(**a, activation="leaky", slope=slopes, shuffle=2)[0]
    leaky = torch.where(plain > 0, plain, plain * slopes.view(-1, 1, 1))
    assert torch.equal(y, F.pixel_shuffle(leaky, 2)) and y.shape == (2, 1, 14, 12)
    assert y.stride()[1] == 1


@pytest.mark.parametrize("case", CASES, ids=str)
def test_statistics_are_those_of_the_result(case: Case) -> None:
    a = arguments(case)
    y, mean, low, high = ops.subset_conv2d(**a, activation="relu", statistics=True)
    assert torch.equal(low, y.amin((2, 3))) and torch.equal(high, y.amax((2, 3)))
    error = (mean.double() - y.double().mean((2, 3))).abs()
    assert (error <= 2**-16 * y.abs().amax((2, 3))).all()
    without = ops.subset_conv2d(**a, activation="relu")
    assert torch.equal(without[0], y) and all(part.shape == (0,) for part in without[1:])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float16_result(case: Case) -> None:
    """The float32 result rounded; statistics are those of what is stored."""
    a = {**arguments(case), "step": arguments(case)["step"] * 30}
    y = ops.subset_conv2d(**a)[0]
    half, mean, low, high = ops.subset_conv2d(**a, out_dtype=torch.float16, statistics=True)
    assert half.dtype == torch.float16 and half.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(half, y.half())
    assert torch.equal(low, half.amin((2, 3)).float())
    assert torch.equal(high, half.amax((2, 3)).float())
    error = (mean.double() - half.double().mean((2, 3))).abs()
    assert (error <= 2**-16 * half.double().abs().amax((2, 3))).all()


def test_parts_of_a_concatenation() -> None:
    """Numbers or codes, in any layout: the same bits."""
    a = arguments(CASES[0])
    a["x"] = [a["x"][0].half().float()]
    x, k = a["x"][0], codes(a)
    expected = ops.subset_conv2d(**a)[0]
    channels_last = x[:, 2:4].contiguous(memory_format=torch.channels_last)
    for parts in (
        [k],
        [x[:, :2], x[:, 2:]],
        [k[:, :1], x[:, 1:2], channels_last, k[:, 4:].contiguous()],
        [x.transpose(2, 3).contiguous().transpose(2, 3)],
        [x.half()],
        [x[:, :2].half(), channels_last.half(), x[:, 4:]],
    ):
        assert torch.equal(ops.subset_conv2d(**{**a, "x": parts})[0], expected)


def test_each_sample_for_itself() -> None:
    a = arguments(Case("batch", (3, 4, 5, 6), (8, 2, 3, 3), padding=(1, 1), groups=2))
    together = ops.subset_conv2d(**a)[0]
    for n in range(3):
        span = slice(n, n + 1)
        alone = {"x": [a["x"][0][span]], "mean": a["mean"][span], "scale": a["scale"][span]}
        assert torch.equal(ops.subset_conv2d(**{**a, **alone})[0], together[span])


def test_degenerate_channels() -> None:
    """Constant channels come out by their mean; NaN spreads over its sample alone."""
    case = CASES[0]
    a = arguments(case)
    a["x"][0][0] = 2.5
    nonnegative = torch.zeros(5).bool()
    a["mean"], a["scale"] = ops.normalisation(*ops.channel_stats(a["x"][0]), nonnegative)
    y = ops.subset_conv2d(**a)[0]
    w = a["levels"].double() * a["step"].double().view(-1, 1, 1, 1)
    exact = case.conv(a["x"][0][:1], w) + a["bias"].double().view(-1, 1, 1)
    assert (y[:1] - exact).abs().max() <= 8 * EPS * exact.abs().max()
    a["x"][0][0, 2, 1, 1] = torch.nan
    a["mean"], a["scale"] = ops.normalisation(*ops.channel_stats(a["x"][0]), nonnegative)
    spoilt, *statistics = ops.subset_conv2d(**a, statistics=True)
    assert spoilt[0].isnan().all() and torch.equal(spoilt[1], y[1])
    for part in ops.normalisation(*statistics, torch.tensor([True, False, True, False])):
        assert part[0].isnan().all() and part[1].isfinite().all()


def test_empty_batch() -> None:
    a = arguments(CASES[0])
    empty = {"x": [a["x"][0][:0]], "mean": a["mean"][:0], "scale": a["scale"][:0]}
    y, *statistics = ops.subset_conv2d(**{**a, **empty}, statistics=True)
    assert y.shape == (0, 4, 7, 6) and all(s.shape == (0, 4) for s in statistics)


@pytest.mark.parametrize("statistics", [False, True])
def test_opcheck(statistics: bool) -> None:
    a = arguments(CASES[0])
    x = a["x"][0]
    a["x"] = [x[:, :2], codes(a)[:, 2:]]
    rest = ("leaky", torch.tensor([0.1]), None, "none", 2, torch.float16, statistics)
    op = torch.ops.ptqsr.subset_conv2d.default
    torch.library.opcheck(op, (*a.values(), *rest))
    rest = ("none", None, torch.zeros(2, 4, 7, 6), "relu", 1, torch.float32, statistics)
    torch.library.opcheck(op, (*a.values(), *rest))


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(x=[]), ValueError, "no parts"),
        (dict(x=[torch.zeros(2, 5, 7, 6).double()]), TypeError, "float16 or torch.int8"),
        (dict(x=[torch.zeros(2, 2, 7, 6), torch.zeros(2, 3, 6, 6)]), ValueError, r"\[N, \*, H, W"),
        (dict(x=[torch.zeros(2, 6, 7, 6)]), ValueError, "6 channels"),
        (dict(points=torch.zeros(4, 16).int()), ValueError, r"points has shape \(4, 16\)"),
        (dict(points=torch.zeros(5, 16)), TypeError, "int32"),
        (dict(mean=torch.zeros(1, 5)), ValueError, r"must have \(2, 5\)"),
        (dict(scale=torch.zeros(2, 5).double()), TypeError, "scale is torch.float64"),
        (dict(denominator=1024), ValueError, "from 1 to 127"),
        (dict(levels=torch.zeros(4, 5, 3, 3).to(torch.int8)), TypeError, "int16"),
        (dict(step=torch.zeros(3)), ValueError, "step"),
        (dict(bias=torch.zeros(3)), ValueError, "bias"),
        (dict(activation="gelu"), ValueError, "gelu"),
        (dict(last_activation="leaky"), ValueError, "leaky"),
        (dict(activation="leaky"), ValueError, "slope belong together"),
        (dict(slope=torch.zeros(1)), ValueError, "slope belong together"),
        (dict(activation="leaky", slope=torch.zeros(2)), ValueError, "slope has shape"),
        (dict(residual=torch.zeros(2, 4, 7, 5)), ValueError, "residual has shape"),
        (dict(residual=torch.zeros(2, 4, 7, 6).byte()), TypeError, "residual is torch.uint8"),
        (dict(residual=torch.zeros(2, 4, 7, 6), shuffle=2), ValueError, "exclude each other"),
        (dict(shuffle=3), ValueError, "shuffled by 3"),
        (dict(out_dtype=torch.bfloat16), TypeError, "out_dtype is torch.bfloat16"),
        (dict(shuffle=0), ValueError, "shuffled by 0"),
        (dict(bias=torch.zeros(4, device="meta")), ValueError, "bias is on meta"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else "",
)
def test_bad_input(change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ops.subset_conv2d(**{**arguments(CASES[0]), **change})
