"""From floating point to codes, in plain PyTorch."""

from __future__ import annotations

import torch

from ptqsr.ops.reference.subset import LARGEST_VALUE, SMALLEST_SCALE, thresholds


def channel_stats(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (mean, low, high), float32 [N, C], of x [N, C, H, W]; NaN where a channel holds it."""
    mean = x.mean((2, 3), dtype=torch.float64).to(torch.float32)
    return mean, x.amin((2, 3)), x.amax((2, 3))


def normalisation(
    mean: torch.Tensor, low: torch.Tensor, high: torch.Tensor, nonnegative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    mean = torch.where(low == high, low, mean)
    mean = torch.where(nonnegative, torch.zeros_like(mean), mean)
    scale = torch.maximum(high - mean, mean - low)
    scale = torch.where(scale < SMALLEST_SCALE, torch.zeros_like(scale), scale)
    sound = (low > -LARGEST_VALUE) & (high < LARGEST_VALUE)
    return torch.where(sound, mean, torch.nan), torch.where(sound, scale, torch.nan)


def subset_encode(
    x: torch.Tensor, points: torch.Tensor, denominator: int, mean: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    n, c, h, w = x.shape
    d = torch.full_like(scale, denominator)
    ratio = torch.where(scale == 0, torch.zeros_like(scale), d / scale)
    u = (x - mean[..., None, None]) * ratio[..., None, None]
    by_channel = u.transpose(0, 1).reshape(c, -1).contiguous()
    code = torch.searchsorted(thresholds(points).contiguous(), by_channel)
    return torch.gather(points, 1, code).to(torch.int8).view(c, n, h, w).transpose(0, 1)


def uniform_encode(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    level = torch.round(x / step).nan_to_num(-torch.inf)
    return (level.clamp(lowest, lowest + ((1 << bits) - 1)) - lowest).to(torch.uint8)
