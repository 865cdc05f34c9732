"""Operations of subset quantization."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.library import layout, library

# Up to here float32 holds every threshold, a half-integer, exactly.
MAX_DENOMINATOR = 1 << 22

library.define(
    "subset_fake_quant(Tensor x, Tensor points, Tensor nonnegative, int denominator)"
    " -> (Tensor y, Tensor mean, Tensor scale)"
)


@torch.library.register_fake("ptqsr::subset_fake_quant", lib=library)
def _subset_fake_quant(
    x: torch.Tensor, points: torch.Tensor, nonnegative: torch.Tensor, denominator: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_subset(x, points, nonnegative, denominator)
    statistics = x.new_empty(x.shape[:2])
    return torch.empty_like(x, memory_format=layout(x)), statistics, statistics.clone()


def check_subset(
    x: torch.Tensor, points: torch.Tensor, nonnegative: torch.Tensor, denominator: int
) -> None:
    """Raise ValueError or TypeError where dtypes, shapes or devices do not fit."""
    if x.ndim != 4 or points.ndim != 2 or points.shape[1] < 1:
        raise ValueError(
            f"subset_fake_quant: x {tuple(x.shape)} must be [N, C, H, W] and points "
            f"{tuple(points.shape)} [C, levels]"
        )
    channels = x.shape[1]
    if points.shape[0] != channels or tuple(nonnegative.shape) != (channels,):
        raise ValueError(
            f"subset_fake_quant: x has {channels} channels, but points have shape "
            f"{tuple(points.shape)} and nonnegative {tuple(nonnegative.shape)}"
        )
    dtypes = (x.dtype, points.dtype, nonnegative.dtype)
    if dtypes != (torch.float32, torch.int32, torch.bool):
        raise TypeError(
            f"subset_fake_quant: x, points, nonnegative are {dtypes}, must be float32, int32, bool"
        )
    if not x.device == points.device == nonnegative.device:
        raise ValueError(
            f"subset_fake_quant: x is on {x.device}, points on {points.device}, nonnegative on "
            f"{nonnegative.device}; move them to one device"
        )
    if not 1 <= denominator <= MAX_DENOMINATOR:
        raise ValueError(
            f"subset_fake_quant: denominator is {denominator}, must be from 1 to {MAX_DENOMINATOR}"
        )
