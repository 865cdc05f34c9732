"""What convolutions of quantized tensors take and are checked against, on GPUs."""

from __future__ import annotations

from types import ModuleType

import torch

from ptqsr.ops.cuda.kernel import kernel, stream_of
from ptqsr.ops.reference import conv as reference
from ptqsr.ops.schema.checks import Geometry, Shape, empty
from ptqsr.ops.schema.conv import check_int_conv, check_refold, check_shift_add


@kernel(reference.int_conv2d)
def int_conv2d(
    module: ModuleType,
    k: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    sums = check_int_conv(k, weight, stride, padding, dilation, groups)
    sizes = _sizes(k, weight, (stride, padding, dilation, groups), sums)
    k, weight = _channels_last(k), _channels_last(weight)
    y = empty(k, sums, torch.int32)
    module.int_conv2d(
        sizes, k.data_ptr(), k.dtype == torch.int8, weight.data_ptr(), y.data_ptr(), stream_of(k)
    )
    return y


@kernel(reference.refold_weights)
def refold_weights(
    module: ModuleType, levels: torch.Tensor, step: torch.Tensor, scale: torch.Tensor, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    check_refold(levels, step, scale, groups)
    levels, step, scale = levels.contiguous(), step.contiguous(), scale.contiguous()
    (n, channels), (kernels, _, height, width) = scale.shape, levels.shape
    weight = levels.new_empty((n, *levels.shape), dtype=torch.int8)
    out_scale = scale.new_empty((n, kernels))
    module.refold_weights(
        *(t.data_ptr() for t in (levels, step, scale, weight, out_scale)),
        n, kernels, channels, height * width, groups, stream_of(levels),
    )  # fmt: skip
    return weight, out_scale


@kernel(reference.shift_add_conv2d)
def shift_add_conv2d(
    module: ModuleType,
    codes: torch.Tensor,
    shifts: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    sums = check_shift_add(codes, shifts, weight, stride, padding, dilation, groups)
    sizes = _sizes(codes, weight, (stride, padding, dilation, groups), sums)
    codes, weight = _channels_last(codes), _channels_last(weight)
    shifts = shifts.contiguous()
    y = empty(codes, sums, torch.int32)
    module.shift_add_conv2d(
        sizes, codes.data_ptr(), shifts.data_ptr(), *shifts.shape, weight.data_ptr(),
        weight.dtype == torch.int16, y.data_ptr(), stream_of(codes),
    )  # fmt: skip
    return y


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _sizes(x: torch.Tensor, weight: torch.Tensor, geometry: Geometry, sums: Shape) -> list[int]:
    """Return the members of csrc/include/ptqsr/conv.h's ConvShape."""
    *pairs, groups = geometry
    kernels, _, *window = weight.shape
    return [*x.shape, kernels, *window, *(size for pair in pairs for size in pair), groups,
            *sums[2:]]  # fmt: skip
