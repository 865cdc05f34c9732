"""Operations of calibration statistics."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.library import library

library.define(
    "channel_histogram(Tensor x, Tensor mean, Tensor ratio, int denominator, int bins_per_step)"
    " -> Tensor"
)

# float32 holds every bin's index exactly, int32 the indices of 32,767 channels.
MAX_BINS = 1 << 16


@torch.library.register_fake("ptqsr::channel_histogram", lib=library)
def _channel_histogram(
    x: torch.Tensor, mean: torch.Tensor, ratio: torch.Tensor, denominator: int, bins_per_step: int
) -> torch.Tensor:
    check_histogram(x, mean, ratio, denominator, bins_per_step)
    return x.new_empty((x.shape[1], 2 * denominator * bins_per_step), dtype=torch.int64)


def check_histogram(
    x: torch.Tensor, mean: torch.Tensor, ratio: torch.Tensor, denominator: int, bins_per_step: int
) -> None:
    """Raise ValueError or TypeError where dtypes, shapes or devices do not fit."""
    if x.ndim != 4 or not mean.shape == ratio.shape == x.shape[:2]:
        raise ValueError(
            f"channel_histogram: x {tuple(x.shape)} must be [N, C, H, W], mean "
            f"{tuple(mean.shape)} and ratio {tuple(ratio.shape)} [N, C]"
        )
    dtypes = (x.dtype, mean.dtype, ratio.dtype)
    if dtypes != (torch.float32,) * 3:
        raise TypeError(f"channel_histogram: x, mean, ratio are {dtypes}, must be float32")
    if not x.device == mean.device == ratio.device:
        raise ValueError(
            f"channel_histogram: x is on {x.device}, mean on {mean.device}, ratio on "
            f"{ratio.device}; move them to one device"
        )
    if min(denominator, bins_per_step) < 1 or 2 * denominator * bins_per_step > MAX_BINS:
        raise ValueError(
            f"channel_histogram: denominator {denominator} and bins_per_step {bins_per_step} must "
            f"be at least 1 and make at most {MAX_BINS} bins"
        )
