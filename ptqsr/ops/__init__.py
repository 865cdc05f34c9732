"""Operations: schema and shapes, the PyTorch reference, and kernels per device."""

from __future__ import annotations

import torch

from ptqsr.ops import autograd, cpu, cuda, reference, schema
from ptqsr.ops.convolutions import (
    int_conv2d,
    refold_weights,
    shift_add_conv2d,
    subset_conv2d,
    uniform_conv2d,
)
from ptqsr.ops.gemm import gemm_s4, gemm_s8
from ptqsr.ops.reference.moments import channel_moments
from ptqsr.ops.reference.subset import (
    channel_statistics,
    quantize_given,
    thresholds,
)

__all__ = [
    "autograd",
    "channel_histogram",
    "channel_moments",
    "channel_statistics",
    "channel_stats",
    "cpu",
    "cuda",
    "gemm_s4",
    "gemm_s8",
    "int_conv2d",
    "normalisation",
    "pack_codes",
    "quantize_given",
    "reference",
    "refold_weights",
    "schema",
    "shift_add_conv2d",
    "subset_conv2d",
    "subset_decode",
    "subset_decode_packed",
    "subset_encode",
    "subset_encode_packed",
    "subset_fake_quant",
    "thresholds",
    "uniform_conv2d",
    "uniform_encode",
    "uniform_fake_quant",
    "unpack_codes",
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

    x: float32, float16 or bfloat16 [N, C, H, W], any layout, computed with in float32. points:
    int32 [C, L], strictly ascending, in units of 1 / denominator, |points| <= denominator.
    nonnegative: bool [C], channels that keep mean 0.
    Returns (y, mean, scale): y as x (channels_last stays so), mean and scale float32 [N, C].

    scale = max |x - mean|; r = D / scale; u = (x - mean) * r; k = the point of u; y = k * (scale /
    D) + mean: each step one float32 operation, ties to the smaller magnitude. A constant channel
    comes out exactly. A channel with NaN, Inf or |x| >= 2^120 comes out as NaN. Raises ValueError
    or TypeError for what does not fit.
    """
    return torch.ops.ptqsr.subset_fake_quant(x, points, nonnegative, denominator)


def channel_stats(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (mean, low, high), float32 [N, C]: mean, min and max of every sample and channel.

    x: float32, float16 or bfloat16 [N, C, H, W], any layout. Min and max are exact; |mean - exact
    mean| <= 2^-16 max |x|, and low where low = high. The result depends on x and its layout alone.
    All three are NaN for a channel with NaN, Inf or |x| >= 2^120, and 0 where there are no pixels.
    `normalisation` makes the quantizer's mean and scale of them.
    """
    return torch.ops.ptqsr.channel_stats(x)


def normalisation(
    mean: torch.Tensor, low: torch.Tensor, high: torch.Tensor, nonnegative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the quantizer's (mean, scale), float32 [N, C], of what `channel_stats` gives.

    nonnegative: bool [C]. The mean becomes 0 where `nonnegative`, else low where low = high; scale
    = max |x - mean| = max(high - mean, mean - low), 0 where below 2^-100. Both are NaN where
    the mean is NaN, low <= -2^120 or high >= 2^120.
    """
    return torch.ops.ptqsr.normalisation(mean, low, high, nonnegative)


def subset_encode(
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Return the point k of every value, int8 in the layout of x, for given statistics.

    x, points as in `subset_fake_quant`, with denominator <= 127; mean, scale: float32 [N, C].
    u = (x - mean) * (D / scale) as there; NaN gives the first point. Raises ValueError or TypeError
    for what does not fit.
    """
    return torch.ops.ptqsr.subset_encode(x, points, denominator, mean, scale)


def subset_decode(
    k: torch.Tensor, denominator: int, mean: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Return k * (scale / D) + mean, float32 in the layout of k: what `subset_fake_quant` gives.

    k: int8 [N, C, H, W] of `subset_encode`; mean, scale: float32 [N, C], those of the encoding.
    """
    return torch.ops.ptqsr.subset_decode(k, denominator, mean, scale)


def subset_encode_packed(
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    bits: int,
) -> torch.Tensor:
    """Return the index of every value's point, packed pixel by pixel along the channels.

    As `subset_encode`, at most 2^bits points a channel. The result is uint8 [N, H, W,
    ceil(C * bits / 8)], each pixel's indices as `pack_codes` packs them.
    """
    return torch.ops.ptqsr.subset_encode_packed(x, points, denominator, mean, scale, bits)


def subset_decode_packed(
    packed: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    bits: int,
) -> torch.Tensor:
    """Return float32 [N, C, H, W], channels_last, of what `subset_encode_packed` gave.

    Raises ValueError for an index that is beyond the points.
    """
    return torch.ops.ptqsr.subset_decode_packed(packed, points, denominator, mean, scale, bits)


def pack_codes(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack codes of 2 to 8 bits without gaps, least significant bit first.

    codes: uint8 [..., K], below 2^bits. Returns uint8 [..., ceil(K * bits / 8)]: every row starts
    at a byte and ends with zeros. Three codes of 3 bits, aaa, bbb and ccc:

        byte 0: ccbbbaaa   byte 1: 0000000c

    Raises ValueError for a code that is too large.
    """
    return torch.ops.ptqsr.pack_codes(codes, bits)


def unpack_codes(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """Return uint8 [..., count] of what `pack_codes` gave; ValueError for another size."""
    return torch.ops.ptqsr.unpack_codes(packed, bits, count)


def uniform_fake_quant(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    """Fake-quantize to the levels lowest .. lowest + 2^bits - 1, times step.

    x: float32, float16 or bfloat16, any shape. step: float32, lowest: int32, scalars on the device
    of x; step > 0, |lowest| <= 2^20 (checked on the CPU). Returns clamp(round(x / step)) * step,
    half to even, without -0, computed in float32 and rounded to x's dtype; NaN stays. The gradient
    for x is 1 where round(x / step) is a level and 0 elsewhere.
    """
    return torch.ops.ptqsr.uniform_fake_quant(x, step, lowest, bits)


def uniform_encode(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    """Return clamp(round(x / step)) - lowest, uint8 in the layout of x; NaN gives 0.

    The arguments are those of `uniform_fake_quant`, which equals step * (code + lowest).
    """
    return torch.ops.ptqsr.uniform_encode(x, step, lowest, bits)
