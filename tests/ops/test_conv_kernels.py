"""Convolutions on the CPU: every instruction set against the reference, on ragged shapes."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptqsr import native, ops
from ptqsr.ops.reference import conv as plain
from ptqsr.ops.reference import fused_conv as reference
from ptqsr.ops.reference.fused_conv import by_sample
from ptqsr.ops.reference.uniform import encoded

ISAS = native.load().available_isas() if native.load() else []
pytestmark = pytest.mark.skipif(not ISAS, reason="no native module here")


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(native, "cpu_isa", lambda: request.param)
    return request.param


def geometry(seed: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[Any, ...]]:
    """The shapes of input and weights, and (stride, padding, dilation, groups), that fit."""
    draw = random.Random(seed)
    while True:
        groups = draw.choice([1, 1, 1, 2, 3, 4])
        per_group = draw.choice([1, 2, 3, 4, 5, 8, 12, 16, 33])
        out = draw.choice([1, 2, 4, 8, 12, 16, 20, 36, 68])
        kernel = [draw.choice([1, 2, 3, 3, 3, 5]) for _ in "hw"]
        stride = [draw.choice([1, 1, 2, 3]) for _ in "hw"]
        padding = [draw.choice([0, 1, 1, 2]) for _ in "hw"]
        dilation = [draw.choice([1, 1, 2]) for _ in "hw"]
        size = [draw.choice([1, 2, 5, 9]), draw.choice([1, 3, 7, 13, 101])]
        fits = [size[i] + 2 * padding[i] > dilation[i] * (kernel[i] - 1) for i in range(2)]
        if all(fits):
            x = (draw.choice([1, 2]), groups * per_group, *size)
            w = (groups * out, per_group, *kernel)
            return x, w, (stride, padding, dilation, groups)


def split(x: torch.Tensor, seed: int) -> list[torch.Tensor]:
    """The parts of a concatenation that is x."""
    cut = random.Random(seed).randint(0, x.shape[1] - 1)
    return [x] if cut == 0 else [x[:, :cut], x[:, cut:]]


def equal(ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert ours.dtype == expected.dtype and ours.shape == expected.shape
    wrong = (ours.double().nan_to_num(7e30) != expected.double().nan_to_num(7e30)).nonzero()
    assert len(wrong) == 0, (
        f"first of {len(wrong)} differences at {wrong[0].tolist()}: "
        f"{ours[tuple(wrong[0])]} is not {expected[tuple(wrong[0])]}"
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), unsigned=st.booleans(), extreme=st.booleans())
def test_int_conv2d(seed: int, unsigned: bool, extreme: bool) -> None:
    torch.manual_seed(seed)
    x, w, rest = geometry(seed)
    low, high = (0, 256) if unsigned else (-128, 128)
    k, weight = torch.randint(low, high, x), torch.randint(-128, 128, w)
    if extreme:  # what would saturate in 16 bits
        k, weight = torch.where(k > low + 128, high - 1, low), torch.where(weight > 0, 127, -128)
    k, weight = k.to(torch.uint8 if unsigned else torch.int8), weight.to(torch.int8)
    for name in ISAS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "cpu_isa", lambda name=name: name)
            equal(ops.int_conv2d(k, weight, *rest), plain.int_conv2d(k, weight, *rest))


def epilogue(seed: int, channels: int) -> tuple[str, torch.Tensor | None, str, int, bool]:
    """Activation, slope, last activation, shuffle, residual or not."""
    draw = random.Random(seed)
    activation = draw.choice(["none", "relu", "leaky"])
    slope = torch.rand(draw.choice([1, channels])) - 0.2 if activation == "leaky" else None
    shuffle = draw.choice([1, 1, 2]) if channels % 4 == 0 else 1
    return activation, slope, draw.choice(["none", "relu"]), shuffle, draw.random() < 0.5


def subset_arguments(seed: int) -> tuple[Any, ...]:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    x, w, (stride, padding, dilation, groups) = geometry(seed)
    d = draw.choice([104, 127, 20])
    count = draw.choice([2, 8, 16, 16, min(107, 2 * d + 1), 2 * d + 1])
    rows = [torch.randperm(2 * d + 1)[:count].sort()[0] - d for _ in range(x[1])]
    points = torch.stack(rows).int()
    values = torch.randn(x) * torch.logspace(-2, 2, x[1]).view(1, -1, 1, 1)
    nonnegative = torch.rand(x[1]) < 0.5
    values = torch.where(nonnegative.view(1, -1, 1, 1), values.relu(), values)
    mean, scale = ops.normalisation(*ops.channel_stats(values), nonnegative)
    parts = split(values, seed)
    if draw.random() < 0.3:
        parts[-1] = parts[-1].half()
    if draw.random() < 0.4:  # the first part comes as codes
        size = parts[0].shape[1]
        given = (points[:size], d, mean[:, :size], scale[:, :size])
        parts[0] = ops.subset_encode(parts[0].float(), *given)
    bits = draw.choice([4, 8])
    levels = torch.randint(-(1 << bits) + 1, 1 << bits, w).to(torch.int16)
    step = torch.rand(w[0]) * 0.02
    bias = torch.randn(w[0]) if draw.random() < 0.7 else None
    activation, slope, last, shuffle, residual = epilogue(seed, w[0])
    shape = torch.nn.functional.conv2d(values, levels.float(), None, stride, padding, dilation,
                                       groups).shape  # fmt: skip
    added = torch.randn(shape) if residual and shuffle == 1 else None
    if added is not None and draw.random() < 0.5:
        added = added.half()
    return (
        parts, points, mean, scale, d, levels, step, bias, stride, padding, dilation, groups,
        activation, slope, added, last, shuffle, draw.choice([torch.float32, torch.float16]),
        draw.random() < 0.5,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_subset_conv2d(isa: str, seed: int) -> None:
    arguments = subset_arguments(seed)
    ours = torch.ops.ptqsr.subset_conv2d(*arguments)
    expected = reference.subset_conv2d(*arguments)
    equal(ours[0], expected[0])
    assert ours[0].is_contiguous(memory_format=torch.channels_last)
    if arguments[-1]:
        y = ours[0]
        exact = y.double().mean((2, 3))
        bound = 2**-16 * y.double().abs().amax((2, 3))
        assert ((ours[1].double() - exact).abs() <= bound).all()  # contract 1
        equal(ours[2], y.amin((2, 3)).float())
        equal(ours[3], y.amax((2, 3)).float())
    else:
        assert [t.numel() for t in ours[1:]] == [0, 0, 0]


def test_moments_depend_on_shape_alone(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 64, 13, 230)
    levels = torch.randint(-127, 128, (68, 64, 3, 3)).to(torch.int16)
    count = torch.tensor([15, 63, 255], dtype=torch.int32)
    step, lowest, bias = 10 / count, -count // 2 + 1, torch.randn(68) * 100
    levels[4:8], bias[4:8] = 0, 700.1  # of one channel, after the pixel shuffle
    bias[8:12] = 1e5

    def run(part: slice, threads: int) -> tuple[torch.Tensor, ...]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return torch.ops.ptqsr.uniform_conv2d_moments(
                [x[part]], step[part], lowest[part], 8, levels, torch.full((68,), 0.01), bias,
                [1, 1], [1, 1], [1, 1], 1, "none", None, None, None, None, "none", 2,
                torch.float32, None, None, 8, count[part],
            )  # fmt: skip
        finally:
            torch.set_num_threads(before)

    whole = run(slice(0, 3), 1)
    near_moments(list(whole[1:]), whole[0])
    assert ((whole[2] == 0) == (torch.arange(17) == 1)).all()
    for threads in (2, 3, 7):
        assert all(torch.equal(a, b) for a, b in zip(whole, run(slice(0, 3), threads), strict=True))
    assert all(torch.equal(a[1:2], b) for a, b in zip(whole, run(slice(1, 2), 2), strict=True))
    monkeypatch.setattr(native, "cpu_isa", lambda: "portable")
    assert all(torch.equal(a, b) for a, b in zip(whole, run(slice(0, 3), 2), strict=True))


def test_statistics_depend_on_shape_alone(isa: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 64, 40, 230)
    d, points = 104, torch.linspace(-104, 104, 16).round().int().repeat(64, 1)
    levels = torch.randint(-15, 16, (64, 64, 3, 3)).to(torch.int16)
    step = torch.rand(64)
    mean, scale = ops.normalisation(*ops.channel_stats(x), torch.zeros(64, dtype=torch.bool))

    def run(part: slice, threads: int) -> tuple[torch.Tensor, ...]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return ops.subset_conv2d(
                [x[part]], points, mean[part], scale[part], d, levels, step, padding=1,
                statistics=True,
            )  # fmt: skip
        finally:
            torch.set_num_threads(before)

    whole = run(slice(0, 3), 1)
    for threads in (2, 3, 7):
        for a, b in zip(whole, run(slice(0, 3), threads), strict=True):
            assert torch.equal(a, b)
    for a, b in zip(whole, run(slice(1, 2), 2), strict=True):
        assert torch.equal(a[1:2], b)


def uniform_quantizer(
    draw: random.Random, bits: int, samples: int | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Step, lowest level and levels, for all samples or each; the last None for all of them."""
    if samples is None and draw.random() < 0.5:
        lowest = -draw.randint(0, (1 << bits) - 1)
        return torch.tensor(draw.uniform(0.01, 0.2)), torch.tensor(lowest, dtype=torch.int32), None
    fewer = [max(bits - draw.choice([0, 2, 4]), 1) for _ in range(samples or 1)]
    counts = [(1 << few) - draw.choice([0, 1]) for few in fewer]
    lowests = [-draw.randint(0, count - 1) for count in counts]
    steps = [draw.uniform(0.01, 0.2) * 2 ** (bits - few) for few in fewer]
    shape = () if samples is None else (samples,)
    return (
        torch.tensor(steps).view(shape),
        torch.tensor(lowests, dtype=torch.int32).view(shape),
        torch.tensor(counts, dtype=torch.int32).view(shape),
    )


def uniform_arguments(seed: int) -> tuple[Any, ...]:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    x, w, (stride, padding, dilation, groups) = geometry(seed)
    x = (draw.choice([1, 2, 5]), *x[1:])
    bits, weight_bits = draw.choice([2, 4, 5, 6, 7, 8, 8, 8]), draw.choice([4, 7, 8])
    in_step, in_lowest, in_levels = uniform_quantizer(
        draw, bits, x[0] if draw.random() < 0.5 else None
    )
    values = torch.randn(x) * 2**bits * in_step.mean()
    parts = split(values, seed)
    if draw.random() < 0.3:
        parts[0] = parts[0].half()
    if draw.random() < 0.5:
        count = torch.full_like(in_lowest, 1 << bits) if in_levels is None else in_levels
        step, least, count = (by_sample(t) for t in (in_step, in_lowest, count))
        parts[-1] = encoded(parts[-1].float(), step, least, count)
    lowest = torch.randint(-(1 << weight_bits) + 1, 1, (w[0], 1, 1, 1))
    levels = (torch.randint(0, 1 << weight_bits, w) + lowest).to(torch.int16)
    bias = torch.randn(w[0]) if draw.random() < 0.7 else None
    activation, slope, last, shuffle, residual = epilogue(seed, w[0])
    shape = torch.nn.functional.conv2d(values, levels.float(), None, stride, padding, dilation,
                                       groups).shape  # fmt: skip
    added, added_quantizer = None, (None, None)
    if residual and shuffle == 1:
        added = torch.randn(shape) * 4
        kind = draw.choice(["floats", "halves", "codes"])
        if kind == "halves":
            added = added.half()
        if kind == "codes":
            added = torch.randint(0, 256, shape).to(torch.uint8)
            added_quantizer = uniform_quantizer(draw, 8, None)[:2]
    dtype = draw.choice([torch.float32, torch.float16, torch.uint8, torch.uint8])
    out: tuple[Any, ...] = (None, None, None)
    if dtype == torch.uint8:
        out = uniform_quantizer(draw, bits, None)
    return (
        parts, in_step, in_lowest, bits, levels, torch.rand(w[0]) * 0.02, bias, stride, padding,
        dilation, groups, activation, slope, added, *added_quantizer, last, shuffle, dtype,
        *out[:2], bits, in_levels, None if out[2] is None else int(out[2]),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_uniform_conv2d(isa: str, seed: int) -> None:
    """With one quantizer for all samples or one for each, of as many levels as bits or fewer."""
    arguments = uniform_arguments(seed)
    expected = reference.uniform_conv2d(*arguments)
    equal(torch.ops.ptqsr.uniform_conv2d(*arguments), expected)
    if expected.dtype != torch.uint8:
        y, *moments = torch.ops.ptqsr.uniform_conv2d_moments(*arguments)
        equal(y, expected)
        near_moments(moments, y)


def near_moments(found: list[torch.Tensor], x: torch.Tensor) -> None:
    """As float64 has them, a deviation much smaller than the values too."""
    exact = x.double().mean((2, 3)), x.double().var((2, 3), correction=0).sqrt()
    rounding = 2**-18 * x.double().abs().amax((2, 3))
    assert all(t.shape == x.shape[:2] and t.dtype == torch.float32 for t in found)
    assert ((found[0] - exact[0]).abs() <= rounding).all()
    assert ((found[1] - exact[1]).abs() <= 2**-10 * exact[1]).all()


@pytest.mark.parametrize("seed", range(10))
def test_refold_weights(isa: str, seed: int) -> None:
    torch.manual_seed(seed)
    _, w, (*_, groups) = geometry(seed)
    levels = torch.randint(-255, 256, w).to(torch.int16)
    levels[0] = 0
    step, scale = torch.rand(w[0]), torch.rand(2, w[1] * groups)
    scale[1, 0] = float("nan")
    scale[0, 0] = 1e-42
    ours = ops.refold_weights(levels, step, scale, groups)
    for a, b in zip(ours, plain.refold_weights(levels, step, scale, groups), strict=True):
        equal(a, b)


def test_channels_with_nan(isa: str) -> None:
    arguments = list(subset_arguments(5))
    arguments[3] = arguments[3].clone()
    arguments[3][0, 0] = float("nan")
    arguments[2] = arguments[2].clone()
    arguments[2][0, 0] = float("nan")
    ours = torch.ops.ptqsr.subset_conv2d(*arguments)[0]
    equal(ours, reference.subset_conv2d(*arguments)[0])
    assert ours[0].isnan().any()


def test_several_threads_at_once(isa: str) -> None:
    cases = [subset_arguments(seed) for seed in range(8)]
    alone = [torch.ops.ptqsr.subset_conv2d(*case)[0] for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: torch.ops.ptqsr.subset_conv2d(*case)[0], cases * 4))
    for i, y in enumerate(together):
        assert torch.equal(y, alone[i % 8])


def test_float16_rounds_half_to_even(isa: str) -> None:
    """All float16 numbers, those between neighbours, and what lies beyond; NaN stays."""
    bits = torch.arange(-(1 << 15), 1 << 15).to(torch.int16)
    halves = bits.view(torch.float16).float()
    finite = halves[halves.isfinite()].unique()
    between = (finite[:-1].double() + finite[1:].double()).div(2).float()
    beyond = torch.tensor([65519.0, 65520.0, 1e6, torch.inf, torch.nan])
    values = torch.cat([finite, between, beyond, -beyond, torch.tensor([-0.0])])
    values = torch.nn.functional.pad(values, (0, -len(values) % 16)).view(1, 16, -1, 1)
    # A convolution whose sums are 0: what comes out is the residual.
    zeros = torch.zeros(1, 1, *values.shape[2:])
    grid = (torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 8)
    weights = (torch.ones(16, 1, 1, 1, dtype=torch.int16), torch.ones(16))
    y = ops.uniform_conv2d([zeros], *grid, *weights, residual=values, out_dtype=torch.float16)
    equal(y, values.half())
    again = ops.uniform_conv2d([zeros], *grid, *weights, residual=y)
    equal(again, y.float())


@pytest.mark.parametrize("activation", ["none", "relu", "leaky"])
@pytest.mark.parametrize("channels", [5, 16, 64, 67])
@pytest.mark.parametrize("statistics", [False, True])
def test_float16_at_its_ends(isa: str, activation: str, channels: int, statistics: bool) -> None:
    """Results that float16 does not hold, or hardly, by way of the bias."""
    arguments = list(subset_arguments(3))
    x, g = torch.cat([part.float() for part in arguments[0]], 1), torch.Generator().manual_seed(1)
    ends = [65504.0, 65519.0, 65520.0, 1e9, 6e-8, 3e-8, 1e-7, 6.1e-5, 0.0, torch.nan, torch.inf]
    bias = torch.tensor(ends)[torch.randint(len(ends), (channels,), generator=g)]
    bias = bias * (torch.randint(0, 2, (channels,), generator=g) * 2 - 1)
    slope = torch.rand(channels, generator=g) if activation == "leaky" else None
    given = (
        [x], *arguments[1:5], torch.zeros(channels, x.shape[1], 1, 1).to(torch.int16),
        torch.ones(channels), bias, [1, 1], [0, 0], [1, 1], 1, activation, slope, None, "none", 1,
        torch.float16, statistics,
    )  # fmt: skip
    ours, expected = torch.ops.ptqsr.subset_conv2d(*given), reference.subset_conv2d(*given)
    equal(ours[0], expected[0])
    assert (ours[0].isinf().any(), ours[0].isnan().any()) == (True, True) or channels == 5
    for a, b in zip(ours[2:], expected[2:], strict=True):
        equal(a, b)


@pytest.mark.parametrize("level", [-256, 256])
def test_levels_out_of_range(level: int) -> None:
    arguments = list(subset_arguments(0))
    arguments[5] = arguments[5].clone()
    arguments[5][0, 0, 0, 0] = level
    with pytest.raises(ValueError, match=r"subset_conv2d: levels .* must lie in \[-255, 255\]"):
        torch.ops.ptqsr.subset_conv2d(*arguments)


def test_levels_too_far_apart() -> None:
    arguments = list(uniform_arguments(0))
    arguments[4] = torch.zeros_like(arguments[4])
    arguments[4][0].view(-1)[:2] = torch.tensor([-200, 100], dtype=torch.int16)
    with pytest.raises(ValueError, match="within 255 steps"):
        torch.ops.ptqsr.uniform_conv2d(*arguments)


def test_codes_out_of_range(isa: str) -> None:
    zero = torch.tensor(0, dtype=torch.int32)
    weights = (torch.ones(4, 8, 1, 1, dtype=torch.int16), torch.ones(4))
    arguments = ([torch.full((1, 8, 3, 3), 16, dtype=torch.uint8)], torch.tensor(1.0), zero, 4)
    with pytest.raises(ValueError, match="code"):
        ops.uniform_conv2d(*arguments, *weights)


@pytest.mark.parametrize("padding", [1 << 34, 1 << 60])
def test_absurd_padding(padding: int) -> None:
    k, weight = torch.ones(1, 1, 2, 2).to(torch.int8), torch.ones(1, 1, 1, 1).to(torch.int8)
    with pytest.raises(ValueError, match="too large"):
        ops.int_conv2d(k, weight, padding, padding)


def test_no_channels() -> None:
    k, weight = torch.zeros(1, 0, 4, 4).to(torch.int8), torch.zeros(3, 0, 3, 3).to(torch.int8)
    with pytest.raises(ValueError, match="no taps"):
        ops.int_conv2d(k, weight)


def test_no_gradient() -> None:
    x = torch.randn(1, 8, 5, 5, requires_grad=True)
    zero, weights = torch.tensor(0, dtype=torch.int32), torch.ones(4, 8, 1, 1, dtype=torch.int16)
    y = ops.uniform_conv2d([x], torch.tensor(0.1), zero, 8, weights, torch.ones(4))
    with pytest.raises(RuntimeError, match="have no gradient"):
        y.sum().backward()


@pytest.mark.parametrize(
    "name",
    ["int_conv2d", "refold_weights", "subset_conv2d", "uniform_conv2d", "uniform_conv2d_moments"],
)
def test_has_a_native_kernel(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"ptqsr::{name}", "CPU")


def test_points_out_of_range() -> None:
    arguments = list(subset_arguments(0))
    arguments[1] = arguments[1].clone()
    arguments[1][0, -1] = 1000
    with pytest.raises(ValueError, match="subset_conv2d: points"):
        torch.ops.ptqsr.subset_conv2d(*arguments)


@pytest.mark.parametrize("lowest", [-256, 1])
def test_lowest_level_out_of_range(lowest: int) -> None:
    arguments = list(uniform_arguments(0))
    arguments[2] = torch.full_like(arguments[2], lowest)
    with pytest.raises(ValueError, match="the lowest in level"):
        torch.ops.ptqsr.uniform_conv2d(*arguments)


@pytest.mark.parametrize("channels", [64, 128])
@pytest.mark.parametrize("out", [1, 3, 4, 5])
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2)])
def test_few_output_channels(isa: str, channels: int, out: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    k = torch.randint(-128, 128, (2, channels, 7, 37)).to(torch.int8)
    weight = torch.randint(-128, 128, (out, channels, 3, 3)).to(torch.int8)
    rest = ([stride] * 2, [1, 2], [dilation] * 2, 1)
    equal(ops.int_conv2d(k, weight, *rest), plain.int_conv2d(k, weight, *rest))


@pytest.mark.parametrize(
    "bits, weight_bits", [(2, 4), (4, 4), (8, 4), (4, 6), (8, 8), (4, 8), (5, 8), (6, 8), (7, 8)]
)
def test_extremes_of_few_bits(isa: str, bits: int, weight_bits: int) -> None:
    # All operands at their ends, in stretches longer than 16 bits hold the sums of.
    torch.manual_seed(0)
    top = (1 << bits) - 1
    codes = torch.randint(0, 2, (1, 320, 4, 9)) * top
    codes[:, :, :2] = top
    least = -(1 << (weight_bits - 1))
    levels = torch.where(torch.rand(20, 320, 3, 3) < 0.5, least, -least - 1)
    levels[:8] = least
    zero = torch.tensor(-1, dtype=torch.int32)
    arguments = (
        [codes.to(torch.uint8)], torch.tensor(0.1), zero, bits, levels.to(torch.int16),
        torch.full((20,), 0.01), None, [1, 1], [1, 1], [1, 1], 1, "none", None, None, None, None,
        "none", 1, torch.float32, None, None, 8,
    )  # fmt: skip
    equal(torch.ops.ptqsr.uniform_conv2d(*arguments), reference.uniform_conv2d(*arguments))


@pytest.mark.parametrize("activation", ["none", "relu", "leaky"])
@pytest.mark.parametrize("residual", ["none", "floats", "halves", "codes"])
@pytest.mark.parametrize(
    "stride, dilation, width", [(1, 1, 101), (2, 1, 75), (1, 2, 40), (3, 1, 3)]
)
def test_codes_to_codes(
    isa: str, activation: str, residual: str, stride: int, dilation: int, width: int
) -> None:
    """Codes that are read in place, and written 64 channels at once; NaN among them."""
    g = torch.Generator().manual_seed(width)
    x = torch.randint(0, 256, (2, 8, 5, width), generator=g, dtype=torch.uint8)
    levels = torch.randint(-128, 128, (64, 8, 3, 3), generator=g).to(torch.int16)
    step, bias = torch.rand(64, generator=g) * 0.01, torch.randn(64, generator=g)
    bias[5], bias[40], bias[63] = torch.nan, torch.inf, -torch.inf
    geometry = ([stride, stride], [dilation, 1], [dilation, dilation], 1)
    shape = plain.int_conv2d(x, levels.to(torch.int8), *geometry).shape
    rest, rest_step, rest_lowest = None, None, None
    if residual in ("floats", "halves"):
        rest = torch.randn(shape, generator=g) * 9
        rest = rest.half() if residual == "halves" else rest
    elif residual == "codes":
        rest = torch.randint(0, 256, shape, generator=g, dtype=torch.uint8)
        rest_step, rest_lowest = torch.tensor(0.1), torch.tensor(-99, dtype=torch.int32)
    slope = torch.rand(64, generator=g) if activation == "leaky" else None
    for last, lowest, bits in (
        ("none", -128, 8),
        ("relu", -100, 8),
        ("none", 0, 8),
        ("relu", 0, 4),
    ):
        arguments = (
            [x], torch.tensor(0.02), torch.tensor(-50, dtype=torch.int32), 8, levels, step, bias,
            *geometry, activation, slope, rest, rest_step, rest_lowest, last, 1,
            torch.uint8, torch.tensor(0.3), torch.tensor(lowest, dtype=torch.int32), bits,
        )  # fmt: skip
        equal(ops.uniform_conv2d(*arguments), reference.uniform_conv2d(*arguments))
