"""uniform_conv2d by tensor cores, bit for bit the reference."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ptqsr.ops.cuda import uniform_conv
from ptqsr.ops.reference import fused_conv as reference

from .conftest import Emulated, OnGpu

pytestmark = pytest.mark.usefixtures("no_reference_in_its_place")

Kernels = Emulated | OnGpu

ARCHITECTURES = [75, 80, 90]

on_every_processor = pytest.mark.parametrize("architecture", ARCHITECTURES)


expected_of = reference.uniform_conv2d


def arguments(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bits: int = 8,
    out: torch.dtype = torch.uint8,
    residual: torch.dtype | None = None,
    activation: str = "relu",
    shuffle: int = 1,
    extreme: bool = False,
) -> list[Any]:
    """A layer of uniform codes, in the order of the operation's arguments."""
    g = torch.Generator().manual_seed(sum(x) + sum(weight))
    draw = random.Random(sum(x))
    top = (1 << bits) - 1
    codes = torch.randint(0, top + 1, x, generator=g).to(torch.uint8)
    half = 1 << (bits - 1)
    levels = torch.randint(-half, half, weight, generator=g).to(torch.int16)
    if extreme:
        codes, levels = torch.full_like(codes, top), torch.full_like(levels, -half)

    def quantizer(bits: int) -> tuple[torch.Tensor, torch.Tensor]:
        lowest = -draw.randint(0, (1 << bits) - 1)
        return torch.tensor(draw.uniform(0.01, 0.2)), torch.tensor(lowest, dtype=torch.int32)

    shape = F.conv2d(
        torch.empty(x, device="meta"), torch.empty(weight, device="meta"), None, stride, padding,
        dilation, groups,
    ).shape  # fmt: skip
    added, added_quantizer = None, (None, None)
    if residual is not None and residual.is_floating_point:
        added = (torch.randn(shape, generator=g) * 4).to(residual)
    elif residual is not None:
        added = torch.randint(0, 256, shape, generator=g).to(torch.uint8)
        added_quantizer = quantizer(8)
    slope = torch.rand(weight[0], generator=g) - 0.2 if activation == "leaky" else None
    return [
        [codes], *quantizer(bits), bits, levels, torch.rand(weight[0], generator=g) * 0.01,
        torch.randn(weight[0], generator=g), [stride] * 2, [padding] * 2, [dilation] * 2, groups,
        activation, slope, added, *added_quantizer, "relu" if residual else "none", shuffle, out,
        *(quantizer(bits) if out == torch.uint8 else (None, None)), bits,
    ]  # fmt: skip


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    wrong = (found.double().nan_to_num(7e9) != expected.double().nan_to_num(7e9)).nonzero()
    assert len(wrong) == 0, (
        f"{len(wrong)} of {found.numel()}, first {wrong[0].tolist()}: {found[tuple(wrong[0])]} is "
        f"not {expected[tuple(wrong[0])]}"
    )


SHAPES: dict[str, dict[str, Any]] = {
    "3x3": dict(x=(1, 64, 18, 19), weight=(64, 64, 3, 3)),
    "one pixel": dict(x=(2, 16, 1, 1), weight=(8, 16, 3, 3)),
    "1x1": dict(x=(1, 48, 5, 7), weight=(20, 48, 1, 1), padding=0),
    "odd channels": dict(x=(1, 7, 6, 17), weight=(3, 7, 3, 3)),
    "many channels": dict(x=(1, 140, 4, 5), weight=(70, 140, 3, 3)),
    "stride": dict(x=(1, 20, 9, 35), weight=(16, 20, 3, 3), stride=2),
    "wide stride, no padding": dict(x=(1, 16, 8, 9), weight=(5, 16, 2, 2), stride=3, padding=0),
    "9x9": dict(x=(1, 70, 4, 20), weight=(4, 70, 9, 9), padding=4),
    "dilation": dict(x=(1, 16, 9, 11), weight=(9, 16, 3, 3), dilation=2, padding=2),
    "groups": dict(x=(1, 24, 5, 6), weight=(40, 6, 3, 3), groups=4),
    "wide padding": dict(x=(1, 16, 2, 3), weight=(4, 16, 3, 3), padding=4),
    "pixel shuffle": dict(x=(1, 16, 5, 18), weight=(32, 16, 3, 3), shuffle=2),
    "pixel shuffle of groups": dict(x=(1, 16, 4, 5), weight=(32, 4, 3, 3), groups=4, shuffle=2),
}  # fmt: skip


@on_every_processor
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes(kernels: Kernels, name: str, bits: int, architecture: int) -> None:
    kernels.emulate(len(name), architecture)
    given = arguments(**SHAPES[name], bits=bits)
    same(kernels.uniform_conv2d(*given), expected_of(*given))


@on_every_processor
@pytest.mark.parametrize("activation", ["none", "relu", "leaky"])
@pytest.mark.parametrize("residual", [None, torch.float32, torch.float16, torch.uint8], ids=str)
@pytest.mark.parametrize("out", [torch.float32, torch.float16, torch.uint8], ids=str)
def test_epilogues(
    kernels: Kernels,
    out: torch.dtype,
    residual: torch.dtype | None,
    activation: str,
    architecture: int,
) -> None:
    kernels.emulate(5, architecture)
    given = arguments(
        (2, 16, 3, 5), (18, 16, 3, 3), out=out, residual=residual, activation=activation
    )
    given[6][3], given[6][4] = torch.nan, torch.inf
    same(kernels.uniform_conv2d(*given), expected_of(*given))


@on_every_processor
@pytest.mark.parametrize("bits", [8, 4])
def test_extremes(kernels: Kernels, bits: int, architecture: int) -> None:
    kernels.emulate(2, architecture)
    given = arguments(
        (1, 130, 3, 4), (8, 130, 3, 3), bits=bits, out=torch.float32, activation="none",
        extreme=True,
    )  # fmt: skip
    same(kernels.uniform_conv2d(*given), expected_of(*given))


def test_any_order_of_threads(kernels: Kernels) -> None:
    given = arguments((1, 32, 17, 18), (24, 32, 3, 3), residual=torch.float16)
    expected = expected_of(*given)
    for seed in range(4):
        kernels.emulate(seed, (75, 90)[seed % 2])
        same(kernels.uniform_conv2d(*given), expected)


def test_parts_that_are_encoded_here(kernels: Kernels) -> None:
    given = arguments((1, 16, 5, 6), (8, 16, 3, 3))
    codes = given[0][0]
    numbers = (codes[:, :7].int() + given[2]).float() * given[1]
    given[0] = [numbers, codes[:, 7:]]
    same(kernels.uniform_conv2d(*given), expected_of(*given))


@on_every_processor
@pytest.mark.parametrize("out", [torch.float16, torch.uint8], ids=str)
@pytest.mark.parametrize("name", ["1x1", "odd channels", "groups", "pixel shuffle"])
def test_a_quantizer_for_each_sample(
    kernels: Kernels, name: str, out: torch.dtype, architecture: int
) -> None:
    kernels.emulate(len(name), architecture)
    x, g = (3, *SHAPES[name]["x"][1:]), torch.Generator().manual_seed(1)
    given = arguments(**{**SHAPES[name], "x": x}, out=out)
    given[1] = torch.rand(3, generator=g) + 0.1
    levels = torch.tensor([16, 63, 256], dtype=torch.int32)
    given[2] = torch.tensor([-8, -31, -200], dtype=torch.int32)
    for numbers in (torch.float32, torch.float16):
        given[0] = [(torch.randn(x, generator=g) * 60).to(numbers)]
        same(kernels.uniform_conv2d(*given, levels), expected_of(*given, levels))
    if out == torch.float16:
        y, *moments = kernels.uniform_conv2d_moments(*given, levels)
        same(y, expected_of(*given, levels))
        torch.testing.assert_close(moments[0], y.float().mean((2, 3)), rtol=1e-3, atol=1e-3)


def test_fewer_levels_than_bits(kernels: Kernels) -> None:
    given = arguments((1, 16, 5, 6), (8, 16, 3, 3))
    given[0], given[2] = [torch.randn(1, 16, 5, 6) * 60], torch.tensor(-127, dtype=torch.int32)
    given[20] = torch.tensor(-3, dtype=torch.int32)
    given += [torch.tensor(255, dtype=torch.int32), 7]
    same(kernels.uniform_conv2d(*given), expected_of(*given))


def test_tables_that_begin_anywhere(kernels: Kernels) -> None:
    """16 bytes are read at a time: what does not begin at a multiple of them is copied."""
    given = arguments((1, 16, 5, 6), (64, 16, 3, 3), activation="leaky")
    for i in (5, 6, 12):
        given[i] = torch.cat([torch.ones(1), given[i]])[1:]
        assert given[i].data_ptr() % 16
    same(kernels.uniform_conv2d(*given), expected_of(*given))


def test_one_tensor_of_levels_with_several_quantizers(kernels: Kernels) -> None:
    given = arguments((1, 16, 5, 6), (8, 16, 3, 3))
    for turn in range(40):
        given[1] = torch.tensor(0.01 + 0.01 * (turn % 20))
        same(kernels.uniform_conv2d(*given), expected_of(*given))


def test_weights_that_change(kernels: Kernels) -> None:
    given = arguments((1, 16, 5, 6), (8, 16, 3, 3))
    same(kernels.uniform_conv2d(*given), expected_of(*given))
    given[4].neg_()
    same(kernels.uniform_conv2d(*given), expected_of(*given))


def test_weights_of_inference_mode(kernels: Kernels) -> None:
    given = arguments((1, 16, 5, 6), (8, 16, 3, 3))
    with torch.inference_mode():
        given[4] = given[4].clone()
        same(kernels.uniform_conv2d(*given), expected_of(*given))


@on_every_processor
@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("name", ["3x3", "odd channels", "many channels", "groups", "stride"])
def test_levels_beyond_the_operands(
    kernels: Kernels, name: str, bits: int, architecture: int
) -> None:
    """Levels lie anywhere about 0, in every kernel elsewhere; some fit as they are."""
    kernels.emulate(bits, architecture)
    given = arguments(**SHAPES[name], bits=bits)
    shape = given[4].shape
    g = torch.Generator().manual_seed(bits)
    lowest = torch.randint(1 - (1 << bits), 1, (shape[0], 1, 1, 1), generator=g)
    lowest[0], lowest[1], lowest[-1] = 1 - (1 << bits), 0, -(1 << (bits - 1))
    given[4] = (lowest + torch.randint(0, 1 << bits, shape, generator=g)).to(torch.int16)
    same(kernels.uniform_conv2d(*given), expected_of(*given))


def test_what_takes_the_reference(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uniform_conv.reference, "uniform_conv2d", expected_of)
    given = arguments((1, 16, 5, 6), (8, 16, 3, 3))
    given[4] = given[4] * 2
    same(kernels.uniform_conv2d(*given), expected_of(*given))
    for shape in (
        dict(x=(1, 16, 9, 9), weight=(4, 16, 25, 25), padding=12),
        dict(x=(1, 16, 4, 5), weight=(24, 8, 3, 3), groups=2, shuffle=2),
        dict(x=(1, 18, 4, 5), weight=(36, 3, 3, 3), groups=6, shuffle=2),
    ):
        given = arguments(**shape)
        same(kernels.uniform_conv2d(*given), expected_of(*given))
