"""Operations: schema and shapes, the PyTorch reference, and kernels per device."""

from __future__ import annotations

import torch

from ptqsr.ops import cpu, reference, schema
from ptqsr.ops.reference.subset import channel_statistics, quantize_given, thresholds

__all__ = [
    "channel_histogram",
    "channel_statistics",
    "cpu",
    "quantize_given",
    "reference",
    "schema",
    "subset_fake_quant",
    "thresholds",
]


def channel_histogram(
    x: torch.Tensor, mean: torch.Tensor, ratio: torch.Tensor, denominator: int, bins_per_step: int
) -> torch.Tensor:
    """Count every channel's normalised values: int64 [C, B], B = 2 * denominator * bins_per_step.

    x: float32 [N, C, H, W], finite. mean, ratio: float32 [N, C], ratio = denominator / scale; where
    it is not above 0 the sample's channel counts nothing. The bin is trunc(((x - mean) * ratio +
    denominator) * bins_per_step), clamped, each step one float32 operation: the same on every
    device. Raises ValueError or TypeError for what does not fit.
    """
    return torch.ops.ptqsr.channel_histogram(x, mean, ratio, denominator, bins_per_step)


def subset_fake_quant(
    x: torch.Tensor, points: torch.Tensor, nonnegative: torch.Tensor, denominator: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fake-quantize to points of a universal set, normalised per sample and channel (DFSQ, 1-4).

    x: float32 [N, C, H, W], any layout. points: int32 [C, L], strictly ascending, in units of
    1 / denominator, |points| <= denominator. nonnegative: bool [C], channels that keep mean 0.
    Returns (y, mean, scale): y as x (channels_last stays so), mean and scale float32 [N, C].

    scale = max |x - mean|; r = D / scale; u = (x - mean) * r; k = the point of u; y = k * (scale /
    D) + mean: each step one float32 operation, ties to the smaller magnitude. A constant channel
    comes out exactly. A channel with NaN, Inf or |x| >= 2^120 comes out as NaN. Raises ValueError
    or TypeError for what does not fit.
    """
    return torch.ops.ptqsr.subset_fake_quant(x, points, nonnegative, denominator)
