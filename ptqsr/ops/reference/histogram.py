"""Calibration statistics in plain PyTorch."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.histogram import check_histogram
from ptqsr.ops.schema.library import library


def channel_histogram(
    x: torch.Tensor, mean: torch.Tensor, ratio: torch.Tensor, denominator: int, bins_per_step: int
) -> torch.Tensor:
    check_histogram(x, mean, ratio, denominator, bins_per_step)
    channels, bins = x.shape[1], 2 * denominator * bins_per_step
    u = (x - mean[..., None, None]) * ratio[..., None, None]
    index = ((u + denominator) * bins_per_step).clamp_(0, bins - 1).to(torch.int32).flatten(2)
    index += bins * torch.arange(channels, dtype=torch.int32, device=x.device)[:, None]
    counts = torch.bincount(index[ratio > 0].flatten(), minlength=channels * bins)
    return counts.view(channels, bins)


# A call, not a decorator: that would leave None in place of the function.
torch.library.register_kernel("ptqsr::channel_histogram", None, channel_histogram, lib=library)
