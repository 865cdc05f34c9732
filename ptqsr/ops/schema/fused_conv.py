"""Quantized convolutions with all that stands around them: encoding before, an epilogue after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

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
    expect_within,
    named,
    shuffled,
)
from ptqsr.ops.schema.conv import GEOMETRY
from ptqsr.ops.schema.library import library
from ptqsr.ops.schema.uniform import check_grid, each

library.define(
    "subset_conv2d(Tensor[] x, Tensor points, Tensor mean, Tensor scale, int denominator,"
    f" Tensor levels, Tensor step, Tensor? bias, {GEOMETRY},"
    " str activation, Tensor? slope, Tensor? residual, str last_activation, int shuffle,"
    " ScalarType out_dtype, bool statistics)"
    " -> (Tensor y, Tensor out_mean, Tensor out_low, Tensor out_high)"
)
_UNIFORM = (
    "(Tensor[] x, Tensor in_step, Tensor in_lowest, int in_bits,"
    f" Tensor levels, Tensor step, Tensor? bias, {GEOMETRY},"
    " str activation, Tensor? slope, Tensor? residual, Tensor? residual_step,"
    " Tensor? residual_lowest, str last_activation, int shuffle,"
    " ScalarType out_dtype, Tensor? out_step, Tensor? out_lowest, int out_bits,"
    " Tensor? in_levels=None, int? out_levels=None)"
)
library.define(f"uniform_conv2d{_UNIFORM} -> Tensor")
library.define(
    f"uniform_conv2d_moments{_UNIFORM} -> (Tensor y, Tensor out_mean, Tensor out_deviation)"
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
    in_levels: torch.Tensor | None = None
    out_levels: int | None = None
    op: ClassVar[str] = "uniform_conv2d"
    sums: Shape = field(init=False)
    out: Shape = field(init=False)

    def __post_init__(self) -> None:
        op = self.op
        anything = (*FLOATS, torch.uint8)
        whole = concatenated(op, self.x, anything)
        self.sums = conv_shape(op, whole, self.levels.shape, *self.geometry)
        expect(op, "levels", self.levels, torch.int16, OIHW)
        expect(op, "step", self.step, torch.float32, (self.sums[1],))
        expect_epilogue(
            op, self.sums, self.bias, self.activation, self.slope, self.residual, anything,
            self.last_activation, self.shuffle,
        )  # fmt: skip
        by_sample = (whole[0],) if self.in_step.ndim == 1 else ()
        _expect_quantizer(
            op, "in", self.in_step, self.in_lowest, self.in_bits, self.in_levels, by_sample
        )
        _expect_quantizer(op, "residual", self.residual_step, self.residual_lowest, 8)
        _expect_quantizer(op, "out", self.out_step, self.out_lowest, self.out_bits, self.out_levels)
        coded = self.residual is not None and self.residual.dtype == torch.uint8
        if (self.residual_step is not None) != coded:
            raise ValueError(f"{op}: a residual of uint8 codes and its step belong together")
        expect_out(op, self.out_dtype, FLOATS if self.out_step is None else (torch.uint8,))
        expect_one_device(
            op, **named(self.x), in_step=self.in_step, residual_step=self.residual_step,
            out_step=self.out_step, in_lowest=self.in_lowest, in_levels=self.in_levels,
            levels=self.levels,
            residual_lowest=self.residual_lowest, out_lowest=self.out_lowest, step=self.step,
            bias=self.bias, slope=self.slope, residual=self.residual,
        )  # fmt: skip
        self.out = shuffled(op, self.sums, self.shuffle)

    @property
    def geometry(self) -> Geometry:
        return self.stride, self.padding, self.dilation, self.groups


class MeasuredConv(UniformConv):
    """The arguments of uniform_conv2d_moments."""

    op = "uniform_conv2d_moments"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out_step is not None:
            raise ValueError(f"{self.op}: codes have no moments; leave out_step out")


def _expect_quantizer(
    op: str,
    what: str,
    step: torch.Tensor | None,
    lowest: torch.Tensor | None,
    bits: int,
    levels: torch.Tensor | int | None = None,
    shape: tuple[int, ...] = (),
) -> None:
    """Raise where step, lowest level and levels make no uniform quantizer; all may be missing."""
    if (step is None) != (lowest is None):
        raise ValueError(f"{op}: {what}_step and {what}_lowest belong together")
    if step is None or lowest is None:
        return
    expect(op, f"{what}_step", step, torch.float32, shape)
    expect(op, f"{what}_lowest", lowest, torch.int32, shape)
    expect_bits(op, bits, f"{what}_bits")
    if isinstance(levels, torch.Tensor):
        expect(op, f"{what}_levels", levels, torch.int32, shape)
    check_levels(op, what, step, lowest, 1 << bits, levels)


def check_levels(
    op: str,
    what: str,
    step: torch.Tensor,
    lowest: torch.Tensor,
    most: int,
    levels: torch.Tensor | int | None,
) -> None:
    """Raise ValueError where 0 is not among the levels, at most `most`, or the step is none."""
    check_grid(op, step, lowest)
    if type(lowest) is not torch.Tensor or lowest.device.type != "cpu":
        return
    for least, count in zip(*each(lowest, most if levels is None else levels), strict=True):
        expect_within(op, f"{what}_levels", count, 1, most)
        if not -count < least <= 0:
            raise ValueError(
                f"{op}: the lowest {what} level is {least}; with {count} levels it must be from "
                f"{1 - count} to 0"
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


@torch.library.register_fake("ptqsr::uniform_conv2d_moments", lib=library)
def _uniform_conv2d_moments(
    *arguments: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    conv = MeasuredConv(*arguments)
    y = empty(conv.x[0], conv.out, conv.out_dtype)
    return y, *empty_moments(y)


def empty_moments(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places for mean and deviation of y [N, C, H, W]."""
    mean, deviation = (y.new_empty(y.shape[:2], dtype=torch.float32) for _ in range(2))
    return mean, deviation


def empty_statistics(
    y: torch.Tensor, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the places for mean, low and high of a result; of no elements where not wanted."""
    size = y.shape[:2] if wanted else (0,)
    mean, low, high = (y.new_empty(size, dtype=torch.float32) for _ in range(3))
    return mean, low, high
