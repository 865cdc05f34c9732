"""Operations of calibration statistics."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.checks import NCHW, expect, expect_one_device
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
    op = "channel_histogram"
    expect(op, "x", x, torch.float32, NCHW)
    expect(op, "mean", mean, torch.float32, x.shape[:2])
    expect(op, "ratio", ratio, torch.float32, x.shape[:2])
    expect_one_device(op, x=x, mean=mean, ratio=ratio)
    if min(denominator, bins_per_step) < 1 or 2 * denominator * bins_per_step > MAX_BINS:
        raise ValueError(
            f"{op}: denominator {denominator} and bins_per_step {bins_per_step} must "
            f"be at least 1 and make at most {MAX_BINS} bins"
        )
