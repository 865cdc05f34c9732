"""Quantized convolutions with all that stands around them: encoding before, an epilogue after."""

from __future__ import annotations

import torch

from ptqsr.config import MAX_BITS, MIN_BITS
from ptqsr.ops.schema.checks import (
    Shape,
    concatenated,
    conv_shape,
    empty,
    expect,
    expect_epilogue,
    expect_one_device,
    shuffled,
)
from ptqsr.ops.schema.conv import GEOMETRY
from ptqsr.ops.schema.library import library
from ptqsr.ops.schema.uniform import check_grid

MAX_INT8_DENOMINATOR = 127

library.define(
    "subset_conv2d(Tensor[] x, Tensor points, Tensor mean, Tensor scale, int denominator,"
    f" Tensor levels, Tensor step, Tensor? bias, {GEOMETRY},"
    " str activation, Tensor? slope, Tensor? residual, str last_activation, int shuffle,"
    " bool statistics) -> (Tensor y, Tensor out_mean, Tensor out_low, Tensor out_high)"
)
library.define(
    "uniform_conv2d(Tensor[] x, Tensor in_step, Tensor in_lowest, int in_bits,"
    f" Tensor levels, Tensor step, Tensor? bias, {GEOMETRY},"
    " str activation, Tensor? slope, Tensor? residual, Tensor? residual_step,"
    " Tensor? residual_lowest, str last_activation, int shuffle,"
    " Tensor? out_step, Tensor? out_lowest, int out_bits) -> Tensor"
)


def check_subset_conv(
    x: list[torch.Tensor],
    points: torch.Tensor,
    mean: torch.Tensor,
    scale: torch.Tensor,
    denominator: int,
    levels: torch.Tensor,
    step: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    activation: str,
    slope: torch.Tensor | None,
    residual: torch.Tensor | None,
    last_activation: str,
    shuffle: int,
    statistics: bool,
) -> Shape:
    """Return the shape of y; raise where the arguments of subset_conv2d do not fit."""
    op = "subset_conv2d"
    whole = concatenated(op, x, (torch.float32, torch.int8))
    shape = conv_shape(op, whole, levels.shape, stride, padding, dilation, groups)
    expect(op, "points", points, torch.int32, (whole[1], None))
    expect(op, "mean", mean, torch.float32, whole[:2])
    expect(op, "scale", scale, torch.float32, whole[:2])
    expect(op, "levels", levels, torch.int16, (None,) * 4)
    expect(op, "step", step, torch.float32, (shape[1],))
    if not 1 <= denominator <= MAX_INT8_DENOMINATOR:
        raise ValueError(
            f"{op}: denominator is {denominator}, must be from 1 to {MAX_INT8_DENOMINATOR}"
        )
    floats = (torch.float32,)
    expect_epilogue(op, shape, bias, activation, slope, residual, floats, last_activation, shuffle)
    operands = {"points": points, "mean": mean, "scale": scale, "levels": levels, "step": step}
    parts = {f"x[{i}]": part for i, part in enumerate(x)}
    expect_one_device(op, **parts, **operands, bias=bias, slope=slope, residual=residual)
    return shuffled(op, shape, shuffle)


def check_uniform_conv(
    x: list[torch.Tensor],
    in_step: torch.Tensor,
    in_lowest: torch.Tensor,
    in_bits: int,
    levels: torch.Tensor,
    step: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    activation: str,
    slope: torch.Tensor | None,
    residual: torch.Tensor | None,
    residual_step: torch.Tensor | None,
    residual_lowest: torch.Tensor | None,
    last_activation: str,
    shuffle: int,
    out_step: torch.Tensor | None,
    out_lowest: torch.Tensor | None,
    out_bits: int,
) -> Shape:
    """Return the shape of the result; raise where the arguments of uniform_conv2d do not fit."""
    op = "uniform_conv2d"
    whole = concatenated(op, x, (torch.float32, torch.uint8))
    shape = conv_shape(op, whole, levels.shape, stride, padding, dilation, groups)
    expect(op, "levels", levels, torch.int16, (None,) * 4)
    expect(op, "step", step, torch.float32, (shape[1],))
    both = (torch.float32, torch.uint8)
    expect_epilogue(op, shape, bias, activation, slope, residual, both, last_activation, shuffle)
    coded = residual is not None and residual.dtype == torch.uint8
    bits = {"in": in_bits, "residual": 8, "out": out_bits}
    steps = {"in": in_step, "residual": residual_step, "out": out_step}
    lowests = {"in": in_lowest, "residual": residual_lowest, "out": out_lowest}
    for what, found in steps.items():
        lowest = lowests[what]
        if (found is None) != (lowest is None):
            raise ValueError(f"{op}: {what}_step and {what}_lowest belong together")
        if found is not None and lowest is not None:
            expect(op, f"{what}_step", found, torch.float32, ())
            expect(op, f"{what}_lowest", lowest, torch.int32, ())
            if not MIN_BITS <= bits[what] <= MAX_BITS:
                raise ValueError(
                    f"{op}: {what}_bits is {bits[what]}, must be from {MIN_BITS} to {MAX_BITS}"
                )
            check_levels(op, what, found, lowest, bits[what])
    if (residual_step is not None) != coded:
        raise ValueError(f"{op}: a residual of uint8 codes and its step belong together")
    parts = {f"x[{i}]": part for i, part in enumerate(x)}
    scalars = {f"{what}_step": tensor for what, tensor in steps.items()}
    scalars |= {f"{what}_lowest": tensor for what, tensor in lowests.items()}
    rest = {"levels": levels, "step": step, "bias": bias, "slope": slope, "residual": residual}
    expect_one_device(op, **parts, **scalars, **rest)
    return shuffled(op, shape, shuffle)


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
    x: list[torch.Tensor], *arguments: object
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = check_subset_conv(x, *arguments)  # type: ignore[arg-type]
    return empty(x[0], shape, torch.float32), *empty_statistics(x[0], shape, bool(arguments[-1]))


@torch.library.register_fake("ptqsr::uniform_conv2d", lib=library)
def _uniform_conv2d(x: list[torch.Tensor], *arguments: object) -> torch.Tensor:
    shape = check_uniform_conv(x, *arguments)  # type: ignore[arg-type]
    return empty(x[0], shape, torch.float32 if arguments[-3] is None else torch.uint8)


def empty_statistics(
    x: torch.Tensor, shape: Shape, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the places for mean, low and high of a result; of no elements where not wanted."""
    size = shape[:2] if wanted else (0,)
    mean, low, high = (x.new_empty(size, dtype=torch.float32) for _ in range(3))
    return mean, low, high
