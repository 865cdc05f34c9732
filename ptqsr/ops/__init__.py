"""Operations: schema and shapes, the PyTorch reference, and kernels per device."""

from __future__ import annotations

import torch

from ptqsr.ops import cpu, reference, schema
from ptqsr.ops.convolutions import (
    int_conv2d,
    refold_weights,
    shift_add_conv2d,
    subset_conv2d,
    uniform_conv2d,
)
from ptqsr.ops.reference.encoding import (
    channel_stats,
    normalisation,
    subset_encode,
    uniform_encode,
)
from ptqsr.ops.reference.subset import channel_statistics, quantize_given, thresholds

__all__ = [
    "channel_statistics",
    "channel_stats",
    "cpu",
    "int_conv2d",
    "normalisation",
    "quantize_given",
    "reference",
    "refold_weights",
    "schema",
    "shift_add_conv2d",
    "subset_conv2d",
    "subset_encode",
    "subset_fake_quant",
    "thresholds",
    "uniform_conv2d",
    "uniform_encode",
]


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
