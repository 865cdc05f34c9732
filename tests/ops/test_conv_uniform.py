"""uniform_conv2d: exact in integers, float32 operation by operation in the epilogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptqsr import ops

from .conv_cases import CASES, Case, levels_of, seeded

EPS = torch.finfo(torch.float32).eps


def scalars(step: float, lowest: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(step), torch.tensor(lowest, dtype=torch.int32)


def arguments(
    case: Case, bits: int = 8, lowest: int = -100, weight_bits: int = 8
) -> dict[str, Any]:
    g = seeded(case)
    step, low = scalars(0.0123, lowest)
    return dict(
        x=[torch.randn(case.x, generator=g)],
        in_step=step,
        in_lowest=low,
        in_bits=bits,
        levels=levels_of(weight_bits, case.weight, g),
        step=torch.rand(case.weight[0], generator=g) * 0.01,
        bias=torch.randn(case.weight[0], generator=g),
        **dict(zip(("stride", "padding", "dilation", "groups"), case.geometry, strict=True)),
    )


def in_levels(a: dict[str, Any]) -> torch.Tensor:
    """What the quantizer of the fake-quantized network rounds to."""
    top = a["in_lowest"] + (1 << a["in_bits"]) - 1
    return torch.round(a["x"][0] / a["in_step"]).clamp(a["in_lowest"], top)


def sums(case: Case, a: dict[str, Any]) -> np.ndarray:
    return case.conv(in_levels(a), a["levels"]).numpy().astype(np.float32)


@pytest.mark.parametrize("bits, lowest", [(8, -100), (8, 0), (4, -7), (2, -3)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_float_result(case: Case, bits: int, lowest: int) -> None:
    """Bit for bit against numpy; close to the convolution of decoded values in float64."""
    a = arguments(case, bits, lowest)
    y = ops.uniform_conv2d(**a)
    factor = a["in_step"].numpy() * a["step"].numpy()
    expected = sums(case, a) * factor[:, None, None] + a["bias"].numpy()[:, None, None]
    assert expected.dtype == np.float32 and np.array_equal(y.numpy(), expected)
    decoded = in_levels(a).double() * a["in_step"].double()
    w = a["levels"].double() * a["step"].double().view(-1, 1, 1, 1)
    exact = case.conv(decoded, w)
    terms = exact.abs() + a["bias"].double().abs().view(-1, 1, 1)
    error = (y.double() - (exact + a["bias"].double().view(-1, 1, 1))).abs()
    assert (error <= 4 * EPS * terms).all()


@pytest.mark.parametrize("out_bits, out_lowest", [(8, -128), (8, 0), (4, -8), (2, 0)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_codes_out(case: Case, out_bits: int, out_lowest: int) -> None:
    a = arguments(case, weight_bits=4)
    out_step, low = scalars(0.031, out_lowest)
    y = ops.uniform_conv2d(**a, out_step=out_step, out_lowest=low, out_bits=out_bits)
    unit = out_step.numpy()
    factor = (a["in_step"].numpy() * a["step"].numpy()) / unit
    v = sums(case, a) * factor[:, None, None] + (a["bias"].numpy() / unit)[:, None, None]
    top = out_lowest + (1 << out_bits) - 1
    expected = np.clip(np.rint(v), out_lowest, top) - out_lowest
    assert v.dtype == np.float32 and y.dtype == torch.uint8
    assert np.array_equal(y.numpy(), expected)
    # Nearly what quantizing the float result gives: a level apart where rounding decides.
    again = ops.uniform_encode(ops.uniform_conv2d(**a), out_step, low, out_bits)
    apart = (again.int() - y.int()).abs()
    assert apart.max() <= 1 and apart.float().mean() <= 0.01


@pytest.mark.parametrize("coded_out", [False, True])
@pytest.mark.parametrize("coded_residual", [False, True])
def test_residual(coded_residual: bool, coded_out: bool) -> None:
    case = CASES[0]
    a = {**arguments(case), "bias": None}
    shape = ops.uniform_conv2d(**a).shape
    out_step, out_low = scalars(0.31, -130)
    factor = a["in_step"] * a["step"]
    if coded_residual:
        residual = torch.randint(0, 256, shape, dtype=torch.uint8)
        step, low = scalars(0.17, -77)
        given = dict(residual=residual, residual_step=step, residual_lowest=low)
        levels = (residual.int() - 77).numpy().astype(np.float32)
        added = levels * ((step.numpy() / out_step.numpy()) if coded_out else step.numpy())
    else:
        residual = torch.randn(shape) * 20
        given = dict(residual=residual)
        added = residual.numpy()
        if coded_out:
            added = added * (np.float32(1) / out_step.numpy())
    assert added.dtype == np.float32
    out = dict(out_step=out_step, out_lowest=out_low) if coded_out else {}
    y = ops.uniform_conv2d(**a, **given, **out, activation="relu", last_activation="relu")
    factor = (factor / out_step if coded_out else factor).numpy()[:, None, None]
    v = np.maximum(np.maximum(sums(case, a) * factor, 0) + added, 0)
    expected = np.clip(np.rint(v), -130, 125) + 130 if coded_out else v
    assert np.array_equal(y.numpy(), expected)


def test_order_of_the_epilogue() -> None:
    a = arguments(CASES[0])
    plain = ops.uniform_conv2d(**a)
    slopes = torch.tensor([0.25, -1.0, 0.0, 2.0])
    leaky = torch.where(plain > 0, plain, plain * slopes.view(-1, 1, 1))
    y = ops.uniform_conv2d(**a, activation="leaky", slope=slopes, shuffle=2)
    assert torch.equal(y, F.pixel_shuffle(leaky, 2)) and y.stride()[1] == 1
    out_step, low = scalars(0.031, -128)
    out = dict(out_step=out_step, out_lowest=low)
    flat = ops.uniform_conv2d(**a, **out)
    assert flat.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(ops.uniform_conv2d(**a, **out, shuffle=2), F.pixel_shuffle(flat, 2))


def test_parts_of_a_concatenation() -> None:
    """Numbers or codes; padding is level 0, whatever its code."""
    a = arguments(CASES[0])
    a["x"] = [a["x"][0].half().float()]
    x = a["x"][0]
    codes = ops.uniform_encode(x, a["in_step"], a["in_lowest"], 8)
    expected = ops.uniform_conv2d(**a)
    channels_last = codes[:, 1:].contiguous(memory_format=torch.channels_last)
    for parts in (
        [codes],
        [x[:, :3], codes[:, 3:]],
        [codes[:, :1], channels_last],
        [x[:, :3].half(), x[:, 3:]],
    ):
        assert torch.equal(ops.uniform_conv2d(**{**a, "x": parts}), expected)


def chosen(a: dict[str, Any]) -> list[dict[str, Any]]:
    """For each of two samples arguments of its own: 4 bits of signed levels, and 6 bits."""
    quantizers = ((0.2, -7, 15), (0.05, -3, 64))
    parts = []
    for i, (step, lowest, levels) in enumerate(quantizers):
        named = zip(("in_step", "in_lowest"), scalars(step, lowest), strict=True)
        count = torch.tensor(levels, dtype=torch.int32)
        parts.append({**a, **dict(named), "x": [a["x"][0][i : i + 1]], "in_levels": count})
    return parts


def test_a_quantizer_for_each_sample() -> None:
    """The same as one by one, in numbers and in codes, and codes are read as they are written."""
    a = {**arguments(CASES[0]), "activation": "relu"}
    alone = chosen(a)
    together = {
        name: torch.stack([one[name] for one in alone])
        for name in ("in_step", "in_lowest", "in_levels")
    }
    step, low = scalars(0.031, -100)
    for out in ({}, dict(out_step=step, out_lowest=low), dict(out_dtype=torch.float16)):
        wanted = torch.cat([ops.uniform_conv2d(**one, **out) for one in alone])
        assert torch.equal(ops.uniform_conv2d(**{**a, **together}, **out), wanted)
    codes = []
    for one in alone:
        top = one["in_levels"] - 1
        given = (one["x"][0], one["in_step"], one["in_lowest"], 8)
        codes.append(torch.minimum(ops.uniform_encode(*given), top).to(torch.uint8))
    coded = ops.uniform_conv2d(**{**a, **together, "x": [torch.cat(codes)]})
    assert torch.equal(coded, ops.uniform_conv2d(**{**a, **together}))


def test_fewer_levels_than_bits() -> None:
    """On either side as many; results that are codes have no more either."""
    a = {**arguments(CASES[0], lowest=-127), "in_levels": torch.tensor(255, dtype=torch.int32)}
    x = a["x"][0]
    a["x"] = [x * 100]
    ends = (x * 100).clamp(-127 * a["in_step"], 127 * a["in_step"])
    assert torch.equal(ops.uniform_conv2d(**a), ops.uniform_conv2d(**{**a, "x": [ends]}))
    step, low = scalars(1e-4, -3)
    codes = ops.uniform_conv2d(**a, out_step=step, out_lowest=low, out_levels=7)
    assert set(codes.unique().tolist()) == {0, 6} or codes.max() == 6


def test_nan_is_the_lowest_level() -> None:
    a = {**arguments(CASES[3]), "bias": None}
    low = {**a, "x": [torch.full_like(a["x"][0], -1e30)]}
    nan = {**a, "x": [torch.full_like(a["x"][0], torch.nan)]}
    assert torch.equal(ops.uniform_conv2d(**nan), ops.uniform_conv2d(**low))
    step, lowest = scalars(1.0, -3)
    residual = torch.full(ops.uniform_conv2d(**a).shape, torch.nan)
    y = ops.uniform_conv2d(**a, residual=residual, out_step=step, out_lowest=lowest)
    assert (y == 0).all()


def test_empty_batch() -> None:
    a = arguments(CASES[0])
    assert ops.uniform_conv2d(**{**a, "x": [a["x"][0][:0]]}).shape == (0, 4, 7, 6)


def test_opcheck() -> None:
    a = arguments(CASES[0])
    codes = ops.uniform_encode(a["x"][0], a["in_step"], a["in_lowest"], 8)
    a["x"] = [a["x"][0][:, :2], codes[:, 2:]]
    op = torch.ops.ptqsr.uniform_conv2d.default
    leaky = (
        "leaky", torch.tensor([0.1]), None, None, None, "none", 2, torch.float16, None, None, 0,
    )  # fmt: skip
    torch.library.opcheck(op, (*a.values(), *leaky))
    residual = torch.zeros(2, 4, 7, 6, dtype=torch.uint8)
    step, low = scalars(0.5, -3)
    coded = (
        "none", None, residual, step, low, "relu", 1, torch.uint8, step.clone(), low.clone(), 4,
    )  # fmt: skip
    torch.library.opcheck(op, (*a.values(), *coded))
    count = torch.tensor([100, 250], dtype=torch.int32)
    a.update(x=[torch.randn(2, 5, 7, 6)], in_step=torch.ones(2), in_lowest=1 - count)
    op = torch.ops.ptqsr.uniform_conv2d_moments.default
    torch.library.opcheck(
        op,
        (*a.values(), *leaky, count),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )
    with pytest.raises(ValueError, match="codes have no moments"):
        op(*a.values(), *coded, count)


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(x=[torch.zeros(2, 5, 7, 6).to(torch.int8)]), TypeError, "uint8"),
        (dict(in_step=torch.zeros(1)), ValueError, "in_step has shape"),
        (dict(in_lowest=torch.tensor(0)), TypeError, "in_lowest is torch.int64"),
        (dict(in_bits=9), ValueError, "in_bits is 9"),
        (dict(in_step=torch.ones(2)), ValueError, "in_lowest has shape"),
        (dict(in_levels=torch.tensor(257).int()), ValueError, "in_levels is 257"),
        (dict(in_levels=torch.tensor(100).int()), ValueError, "lowest in level is -100; with 100"),
        (dict(in_levels=torch.tensor(200)), TypeError, "in_levels is torch.int64"),
        (dict(in_step=torch.tensor([1.0, 0.0]), in_lowest=torch.tensor([0, 0]).int()), ValueError,
         "step is 0.0"),
        (dict(out_step=torch.tensor(1.0)), ValueError, "out_step and out_lowest"),
        (dict(out_step=torch.tensor(1.0), out_lowest=torch.tensor(0).int(), out_bits=0),
         ValueError, "out_bits is 0"),
        (dict(residual=torch.zeros(2, 4, 7, 6).byte()), ValueError, "codes and its step"),
        (dict(residual=torch.zeros(2, 4, 7, 6).double()), TypeError, "residual is torch.float64"),
        (dict(out_dtype=torch.uint8), TypeError, "out_dtype is torch.uint8"),
        (dict(out_step=torch.tensor(1.0), out_lowest=torch.tensor(0).int(),
              out_dtype=torch.float16), TypeError, "must be torch.uint8"),
        (dict(residual_step=torch.tensor(1.0)), ValueError, "residual_step and residual_lowest"),
        (dict(levels=torch.zeros(4, 4, 3, 3).short()), ValueError, "takes 4"),
        (dict(in_step=torch.tensor(1.0, device="meta")), ValueError, "in_step is on meta"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else "",
)  # fmt: skip
def test_bad_input(change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ops.uniform_conv2d(**{**arguments(CASES[0]), **change})
