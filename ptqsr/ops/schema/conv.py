"""Integer convolutions, and the weights that they take."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.checks import NCHW, OIHW, Shape, conv_shape, empty, expect, expect_one_device
from ptqsr.ops.schema.library import library

GEOMETRY = "int[2] stride, int[2] padding, int[2] dilation, int groups"
# An int32 code holds the sign, and an element's index for every word.
MAX_CODE_BITS = 31

library.define(f"int_conv2d(Tensor k, Tensor weight, {GEOMETRY}) -> Tensor")
library.define(
    "refold_weights(Tensor levels, Tensor step, Tensor scale, int groups)"
    " -> (Tensor weight, Tensor out_scale)"
)
library.define(
    f"shift_add_conv2d(Tensor codes, Tensor shifts, Tensor weight, {GEOMETRY}) -> Tensor"
)


def check_int_conv(
    k: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Shape:
    """Return the shape of int_conv2d's result; raise where the arguments do not fit."""
    op = "int_conv2d"
    shape = conv_shape(op, k.shape, weight.shape, stride, padding, dilation, groups)
    expect(op, "k", k, (torch.int8, torch.uint8), NCHW)
    expect(op, "weight", weight, torch.int8, OIHW)
    expect_one_device(op, k=k, weight=weight)
    return shape


def check_refold(
    levels: torch.Tensor, step: torch.Tensor, scale: torch.Tensor, groups: int
) -> None:
    """Raise where the arguments of refold_weights do not fit."""
    op = "refold_weights"
    expect(op, "levels", levels, torch.int16, OIHW)
    out_channels, per_group = levels.shape[:2]
    if groups < 1 or out_channels % groups:
        raise ValueError(f"{op}: {out_channels} output channels in {groups} groups")
    expect(op, "step", step, torch.float32, (out_channels,))
    expect(op, "scale", scale, torch.float32, ("N", per_group * groups))
    expect_one_device(op, levels=levels, step=step, scale=scale)


def check_shift_add(
    codes: torch.Tensor,
    shifts: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Shape:
    """Return the shape of shift_add_conv2d's result; raise where the arguments do not fit."""
    op = "shift_add_conv2d"
    shape = conv_shape(op, codes.shape, weight.shape, stride, padding, dilation, groups)
    expect(op, "codes", codes, torch.int32, NCHW)
    expect(op, "shifts", shifts, torch.int32, ("W", "E"))
    expect(op, "weight", weight, (torch.int8, torch.int16), OIHW)
    words, elements = shifts.shape
    if not words or not elements or words * index_bits(elements) + 1 > MAX_CODE_BITS:
        raise ValueError(f"{op}: shifts {tuple(shifts.shape)} make no codes of 32 bits")
    expect_one_device(op, codes=codes, shifts=shifts, weight=weight)
    return shape


def index_bits(elements: int) -> int:
    """Return the bits that an index of so many elements takes."""
    return (elements - 1).bit_length()


@torch.library.register_fake("ptqsr::int_conv2d", lib=library)
def _int_conv2d(
    k: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    shape = check_int_conv(k, weight, stride, padding, dilation, groups)
    return empty(k, shape, torch.int32)


@torch.library.register_fake("ptqsr::refold_weights", lib=library)
def _refold_weights(
    levels: torch.Tensor, step: torch.Tensor, scale: torch.Tensor, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    check_refold(levels, step, scale, groups)
    shape = (scale.shape[0], *levels.shape)
    return levels.new_empty(shape, dtype=torch.int8), scale.new_empty(shape[:2])


@torch.library.register_fake("ptqsr::shift_add_conv2d", lib=library)
def _shift_add_conv2d(
    codes: torch.Tensor,
    shifts: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    shape = check_shift_add(codes, shifts, weight, stride, padding, dilation, groups)
    return empty(codes, shape, torch.int32)
