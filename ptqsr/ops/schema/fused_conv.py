"""Quantized convolutions with all that stands around them: encoding before, an epilogue after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ptqsr.ops.schema.checks import (
    MAX_INT8_DENOMINATOR,
    OIHW,
    Geometry,
    Shape,
    concatenated,
    conv_shape,
    empty,
    expect,
    expect_bits,
    expect_epilogue,
    expect_one_device,
    expect_out,
    expect_points,
    named,
    shuffled,
)
from ptqsr.ops.schema.conv import GEOMETRY
from ptqsr.ops.schema.library import library
from ptqsr.ops.schema.uniform import check_grid

library.define(
    "subset_conv2d(Tensor[] x, Tensor points, Tensor mean, Tensor scale, int denominator,"
    f" Tensor levels, Tensor step, Tensor? bias, {GEOMETRY},"
    " str activation, Tensor? slope, Tensor? residual, str last_activation, int shuffle,"
    " ScalarType out_dtype, bool statistics)"
    " -> (Tensor y, Tensor out_mean, Tensor out_low, Tensor out_high)"
)
library.define(
    "uniform_conv2d(Tensor[] x, Tensor in_step, Tensor in_lowest, int in_bits,"
    f" Tensor levels, Tensor step, Tensor? bias, {GEOMETRY},"
    " str activation, Tensor? slope, Tensor? residual, Tensor? residual_step,"
    " Tensor? residual_lowest, str last_activation, int shuffle,"
    " ScalarType out_dtype, Tensor? out_step, Tensor? out_lowest, int out_bits) -> Tensor"
)

FLOATS = (torch.float32, torch.float16)


@dataclass(eq=False)
class SubsetConv:
    """The arguments of subset_conv2d. Raises where they do not fit.

    `sums`: the shape of the convolution's sums; `out`: that of the result.
    """

    x: list[torch.Tensor]
    points: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor
    denominator: int
    levels: torch.Tensor
    step: torch.Tensor
    bias: torch.Tensor | None
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int
    activation: str
    slope: torch.Tensor | None
    residual: torch.Tensor | None
    last_activation: str
    shuffle: int
    out_dtype: torch.dtype
    statistics: bool
    sums: Shape = field(init=False)
    out: Shape = field(init=False)

    def __post_init__(self) -> None:
        op = "subset_conv2d"
        whole = concatenated(op, self.x, (*FLOATS, torch.int8))
        self.sums = conv_shape(op, whole, self.levels.shape, *self.geometry)
        expect_points(op, self.points, whole[1], self.denominator, MAX_INT8_DENOMINATOR)
        expect(op, "mean", self.mean, torch.float32, whole[:2])
        expect(op, "scale", self.scale, torch.float32, whole[:2])
        expect(op, "levels", self.levels, torch.int16, OIHW)
        expect(op, "step", self.step, torch.float32, (self.sums[1],))
        expect_epilogue(
            op, self.sums, self.bias, self.activation, self.slope, self.residual, FLOATS,
            self.last_activation, self.shuffle,
        )  # fmt: skip
        expect_out(op, self.out_dtype, FLOATS)
        expect_one_device(
            op, **named(self.x), points=self.points, mean=self.mean, scale=self.scale,
            levels=self.levels, step=self.step, bias=self.bias, slope=self.slope,
            residual=self.residual,
        )  # fmt: skip
        self.out = shuffled(op, self.sums, self.shuffle)

    @property
    def geometry(self) -> Geometry:
        return self.stride, self.padding, self.dilation, self.groups


@dataclass(eq=False)
class UniformConv:
    """The arguments of uniform_conv2d. Raises where they do not fit.

    `sums`: the shape of the convolution's sums; `out`: that of the result.
    """

    x: list[torch.Tensor]
    in_step: torch.Tensor
    in_lowest: torch.Tensor
    in_bits: int
    levels: torch.Tensor
    step: torch.Tensor
    bias: torch.Tensor | None
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int
    activation: str
    slope: torch.Tensor | None
    residual: torch.Tensor | None
    residual_step: torch.Tensor | None
    residual_lowest: torch.Tensor | None
    last_activation: str
    shuffle: int
    out_dtype: torch.dtype
    out_step: torch.Tensor | None
    out_lowest: torch.Tensor | None
    out_bits: int
    sums: Shape = field(init=False)
    out: Shape = field(init=False)

    def __post_init__(self) -> None:
        op = "uniform_conv2d"
        anything = (*FLOATS, torch.uint8)
        whole = concatenated(op, self.x, anything)
        self.sums = conv_shape(op, whole, self.levels.shape, *self.geometry)
        expect(op, "levels", self.levels, torch.int16, OIHW)
        expect(op, "step", self.step, torch.float32, (self.sums[1],))
        expect_epilogue(
            op, self.sums, self.bias, self.activation, self.slope, self.residual, anything,
            self.last_activation, self.shuffle,
        )  # fmt: skip
        _expect_quantizer(op, "in", self.in_step, self.in_lowest, self.in_bits)
        _expect_quantizer(op, "residual", self.residual_step, self.residual_lowest, 8)
        _expect_quantizer(op, "out", self.out_step, self.out_lowest, self.out_bits)
        coded = self.residual is not None and self.residual.dtype == torch.uint8
        if (self.residual_step is not None) != coded:
            raise ValueError(f"{op}: a residual of uint8 codes and its step belong together")
        expect_out(op, self.out_dtype, FLOATS if self.out_step is None else (torch.uint8,))
        expect_one_device(
            op, **named(self.x), in_step=self.in_step, residual_step=self.residual_step,
            out_step=self.out_step, in_lowest=self.in_lowest, levels=self.levels,
            residual_lowest=self.residual_lowest, out_lowest=self.out_lowest, step=self.step,
            bias=self.bias, slope=self.slope, residual=self.residual,
        )  # fmt: skip
        self.out = shuffled(op, self.sums, self.shuffle)

    @property
    def geometry(self) -> Geometry:
        return self.stride, self.padding, self.dilation, self.groups


def _expect_quantizer(
    op: str, what: str, step: torch.Tensor | None, lowest: torch.Tensor | None, bits: int
) -> None:
    """Raise where step, lowest level and bits make no uniform quantizer; both may be missing."""
    if (step is None) != (lowest is None):
        raise ValueError(f"{op}: {what}_step and {what}_lowest belong together")
    if step is None or lowest is None:
        return
    expect(op, f"{what}_step", step, torch.float32, ())
    expect(op, f"{what}_lowest", lowest, torch.int32, ())
    expect_bits(op, bits, f"{what}_bits")
    check_levels(op, what, step, lowest, bits)


def check_levels(op: str, what: str, step: torch.Tensor, lowest: torch.Tensor, bits: int) -> None:
    """Raise ValueError where 0 is not among the levels, or the step is none."""
    check_grid(op, step, lowest)
    if type(lowest) is not torch.Tensor or lowest.device.type != "cpu":
        return
    if not -(1 << bits) < lowest.item() <= 0:
        raise ValueError(
            f"{op}: the lowest {what} level is {lowest.item()}; with {bits} bits it must be from "
            f"{1 - (1 << bits)} to 0"
        )


@torch.library.register_fake("ptqsr::subset_conv2d", lib=library)
def _subset_conv2d(
    *arguments: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    conv = SubsetConv(*arguments)
    y = empty(conv.x[0], conv.out, conv.out_dtype)
    return y, *empty_statistics(y, conv.statistics)


@torch.library.register_fake("ptqsr::uniform_conv2d", lib=library)
def _uniform_conv2d(*arguments: Any) -> torch.Tensor:
    conv = UniformConv(*arguments)
    return empty(conv.x[0], conv.out, conv.out_dtype)


def empty_statistics(
    y: torch.Tensor, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the places for mean, low and high of a result; of no elements where not wanted."""
    size = y.shape[:2] if wanted else (0,)
    mean, low, high = (y.new_empty(size, dtype=torch.float32) for _ in range(3))
    return mean, low, high
