"""Integer convolutions: exact, in every geometry, by multiplying and by shifting."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ptqsr import PtqsrError, ops
from ptqsr.points import PRESETS, UniversalSet

from .conv_cases import CASES, Case, integers, seeded

SETS = {name: UniversalSet.preset(name) for name in PRESETS if name != "int8"}
SETS["custom"] = UniversalSet.from_words([[0.5, 0, 1, 0.25, 2**-5], [0, 1], [0, 0.5, 0.25]])


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_int_conv2d(case: Case, dtype: torch.dtype) -> None:
    g = seeded(case)
    k = integers(*((-128, 127) if dtype == torch.int8 else (0, 255)), case.x, g).to(dtype)
    weight = integers(-128, 127, case.weight, g).to(torch.int8)
    expected = case.conv(k, weight).to(torch.int32)
    for layout in (torch.contiguous_format, torch.channels_last):
        y = ops.int_conv2d(k.contiguous(memory_format=layout), weight, *case.geometry)
        assert y.dtype == torch.int32 and torch.equal(y, expected)
    y = ops.int_conv2d(k.repeat_interleave(2, 3)[..., ::2], weight, *case.geometry)
    assert torch.equal(y, expected)


def test_int_conv2d_at_the_extremes() -> None:
    k = torch.full((1, 64, 5, 5), 255, dtype=torch.uint8)
    weight = torch.full((2, 64, 3, 3), -128, dtype=torch.int8)
    assert ops.int_conv2d(k, weight, padding=1).min() == -255 * 128 * 64 * 9
    weight = torch.full((2, 64, 3, 3), -128, dtype=torch.int8)
    y = ops.int_conv2d(torch.full_like(k, 128).view(torch.int8), weight, padding=1)
    assert y.max() == 128 * 128 * 64 * 9


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refold_weights(case: Case) -> None:
    """Against numpy, kernel by kernel, each operation in float32."""
    g = seeded(case)
    levels = integers(-255, 255, case.weight, g).to(torch.int16)
    step = torch.rand(case.weight[0], generator=g) * 0.01 * (-1.0) ** torch.arange(case.weight[0])
    scale = torch.rand(case.x[:2], generator=g) * torch.logspace(-3, 3, case.x[1])
    weight, out_scale = ops.refold_weights(levels, step, scale, case.groups)
    assert weight.shape == (case.x[0], *case.weight) and out_scale.shape == weight.shape[:2]
    out_channels, per_group = case.weight[:2]
    for n in range(case.x[0]):
        for o in range(out_channels):
            first = o // (out_channels // case.groups) * per_group
            s = scale[n, first : first + per_group].numpy()[:, None, None]
            m = (levels[o].numpy().astype(np.float32) * step[o].numpy()) * s
            a = np.abs(m).max() / np.float32(127)
            assert m.dtype == np.float32 and out_scale[n, o].numpy() == a
            folded = np.rint(m / a) if a else np.zeros_like(m)
            assert np.array_equal(weight[n, o].numpy(), folded)
            assert not a or np.abs(weight[n, o].numpy().astype(int)).max() == 127


def test_refold_weights_of_zero_and_nan() -> None:
    levels = torch.tensor([[3, -5], [0, 0]], dtype=torch.int16).view(2, 2, 1, 1)
    scale = torch.tensor([[0.0, 0.0], [1.0, torch.nan], [2.0**-149, 0.0]])
    weight, out_scale = ops.refold_weights(levels, torch.ones(2), scale)
    assert (weight == 0).all()
    assert (out_scale[0] == 0).all() and out_scale[1].isnan().all()
    # So small that its 127th is none: it counts as 0.
    assert out_scale[2, 0] == 0


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16], ids=str)
@pytest.mark.parametrize("name", SETS)
def test_shift_add_of_every_set(name: str, dtype: torch.dtype) -> None:
    universal_set = SETS[name]
    table, shifts = map(torch.from_numpy, universal_set.shift_codes())
    for case in CASES[::2]:
        g = seeded(case)
        index = integers(0, len(table) - 1, case.x, g).long()
        points = torch.from_numpy(universal_set.integers)[index]
        limit = 128 if dtype == torch.int8 else 2000
        weight = integers(-limit, limit - 1, case.weight, g).to(dtype)
        y = ops.shift_add_conv2d(table[index], shifts, weight, *case.geometry)
        assert torch.equal(y.double(), case.conv(points, weight))
        if universal_set.is_int8 and dtype == torch.int8:
            assert torch.equal(y, ops.int_conv2d(points.to(torch.int8), weight, *case.geometry))


def test_shift_codes() -> None:
    codes, shifts = SETS["sq-2word"].shift_codes()
    assert shifts.tolist() == [[-1, 4, 3, 1], [-1, 4, 2, 0]]
    integers = SETS["sq-2word"].integers.tolist()
    # 18 = 2^4 + ... : the first combination is 2 + 16, elements 3 and 1.
    assert codes[integers.index(18)] == 3 | 1 << 2
    assert codes[integers.index(-18)] == 3 | 1 << 2 | 1 << 4
    with pytest.raises(PtqsrError, match="no words"):
        UniversalSet.preset("int8").shift_codes()


def test_shift_add_wraps_as_int32_does() -> None:
    codes = torch.ones((1, 1, 1, 1), dtype=torch.int32)
    shifts = torch.tensor([[-1, 20]], dtype=torch.int32)
    weight = torch.full((1, 1, 1, 1), 2**12, dtype=torch.int16)
    assert ops.shift_add_conv2d(codes, shifts, weight).item() == 0


def test_empty_batch() -> None:
    k, weight = torch.zeros((0, 2, 3, 3), dtype=torch.int8), torch.zeros(4, 2, 3, 3).to(torch.int8)
    assert ops.int_conv2d(k, weight, padding=1).shape == (0, 4, 3, 3)
    levels = weight.to(torch.int16)
    assert ops.refold_weights(levels, torch.ones(4), torch.ones(0, 2))[0].shape == (0, 4, 2, 3, 3)


def test_opcheck() -> None:
    k = torch.ones(2, 4, 5, 6).to(torch.int8)
    weight = torch.ones(6, 2, 3, 3).to(torch.int8)
    geometry = ([1, 2], [1, 1], [1, 1], 2)
    torch.library.opcheck(torch.ops.ptqsr.int_conv2d.default, (k, weight, *geometry))
    refold = (weight.short(), torch.ones(6), torch.ones(2, 4), 2)
    torch.library.opcheck(torch.ops.ptqsr.refold_weights.default, refold)
    shifts = torch.tensor([[-1, 2]], dtype=torch.int32)
    shift_add = (k.int(), shifts, weight, *geometry)
    torch.library.opcheck(torch.ops.ptqsr.shift_add_conv2d.default, shift_add)


K, W = torch.zeros(1, 4, 5, 5).to(torch.int8), torch.zeros(6, 4, 3, 3).to(torch.int8)


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ((K[0], W), ValueError, r"\[N, C, H, W\]"),
        ((K.float(), W), TypeError, "int8 or torch.uint8"),
        ((K, W.short()), TypeError, "weight is torch.int16"),
        ((K[:, :3], W), ValueError, r"\(1, 3, 5, 5\) has 3 channels.* takes 4"),
        ((K, W, 1, 0, 1, 4), ValueError, "takes 16 in 4 groups"),
        ((K, W[:5, :2], 1, 0, 1, 2), ValueError, "2 groups"),
        ((K, W, 0), ValueError, "make no convolution"),
        ((K, W, 1, -1), ValueError, "make no convolution"),
        ((K, W, 1, 0, 3), ValueError, "is smaller than the weight"),
        ((K[:, :, :0], W, 1, 2), ValueError, "no pixels"),
        ((K, W[:, :, :0]), ValueError, "no taps"),
        ((torch.zeros(1, 40000, 1, 1).to(torch.int8), torch.zeros(1, 40000, 1, 1).to(torch.int8)),
         ValueError, "more than"),
        ((K.to("meta"), W), ValueError, "one device"),
    ],
)  # fmt: skip
def test_bad_input_to_int_conv2d(arguments: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ops.int_conv2d(*arguments)


def test_bad_input_to_the_others() -> None:
    levels, step, scale = W.to(torch.int16), torch.ones(6), torch.ones(1, 4)
    for arguments, error, words in (
        ((W, step, scale), TypeError, "int16"),
        ((levels, step[1:], scale), ValueError, r"step has shape \(5,\), must have \(6\)"),
        ((levels, step, scale[:, 1:]), ValueError, r"\(N, 4\)"),
        ((levels, step, scale, 4), ValueError, "groups"),
        ((levels, step.double(), scale), TypeError, "float64"),
    ):
        with pytest.raises(error, match=words):
            ops.refold_weights(*arguments)
    shifts = torch.zeros((4, 4), dtype=torch.int32)
    for arguments, error, words in (
        ((K, shifts, W), TypeError, "codes is torch.int8"),
        ((K.int(), shifts.long(), W), TypeError, "int64"),
        ((K.int(), shifts, W.int()), TypeError, "int16"),
        ((K.int(), shifts.repeat(4, 1), W), ValueError, "32 bits"),
        ((K.int(), shifts[:0], W), ValueError, "32 bits"),
    ):
        with pytest.raises(error, match=words):
            ops.shift_add_conv2d(*arguments)
