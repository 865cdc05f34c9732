"""Subset quantization in plain PyTorch."""

from __future__ import annotations

import torch

from ptqsr.ops.reference.packing import pack_codes, unpack_codes
from ptqsr.ops.schema.library import layout, library
from ptqsr.ops.schema.subset import (
    check_decode,
    check_decode_packed,
    check_encode,
    check_normalisation,
    check_stats,
    check_subset,
)

# Below this a scale counts as 0, so that its reciprocal is no infinity.
SMALLEST_SCALE = 2.0**-100
# A channel with a larger magnitude, or with NaN, comes out as NaN.
LARGEST_VALUE = 2.0**120


def channel_stats(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_stats(x)
    x = x.to(torch.float32)
    if x.numel() == 0:
        empty = x.new_zeros(x.shape[:2])
        return empty, empty.clone(), empty.clone()
    low, high = x.amin((2, 3)), x.amax((2, 3))
    # Summed in float64 the mean is exact to the last float32 place: contract 1 asks for less.
    mean = x.mean((2, 3), dtype=torch.float64).to(torch.float32)
    mean = torch.where(low == high, low, mean)
    sound = (low > -LARGEST_VALUE) & (high < LARGEST_VALUE)
    mean, low, high = (torch.where(sound, value, torch.nan) for value in (mean, low, high))
    return mean, low, high


def normalisation(
    mean: torch.Tensor, low: torch.Tensor, high: torch.Tensor, nonnegative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    check_normalisation(mean, low, high, nonnegative)
    sound = (low > -LARGEST_VALUE) & (high < LARGEST_VALUE) & ~mean.isnan()
    mean = torch.where(low == high, low, mean)
    mean = torch.where(nonnegative, torch.zeros_like(mean), mean)
    scale = torch.maximum(high - mean, mean - low)
    scale = torch.where(scale < SMALLEST_SCALE, torch.zeros_like(scale), scale)
    return torch.where(sound, mean, torch.nan), torch.where(sound, scale, torch.nan)


def channel_statistics(
    x: torch.Tensor, nonnegative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (mean, scale), float32 [N, C], of x [N, C, H, W]: plain PyTorch, on any device."""
    return normalisation(*channel_stats(x), nonnegative)


def thresholds(points: torch.Tensor) -> torch.Tensor:
    """Return the thresholds, float32 [C, L - 1], between points [C, L]: x > t goes up.

    Half-integers, those <= 0 one float lower (0: -2^-126), so that one comparison sends ties to
    the smaller magnitude, and at 0 to the positive point.
    """
    t = (points[:, :-1].long() + points[:, 1:].long()).to(torch.float32) * 0.5
    lower = torch.nextafter(t, torch.full_like(t, -torch.inf))
    lower = torch.where(t == 0, torch.full_like(t, -(2.0**-126)), lower)
    return torch.where(t > 0, t, lower)


def codes_given(
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Return the index of every value's point, int64 [N, C, H, W]: 0 for NaN."""
    n, c, h, w = x.shape
    if x.numel() == 0:
        return x.new_empty(x.shape, dtype=torch.int64)
    x = x.to(torch.float32)
    # A tensor, not a number: PyTorch multiplies by the reciprocal instead, which rounds twice.
    d = torch.full_like(scale, denominator)
    ratio = torch.where(scale == 0, torch.zeros_like(scale), d / scale)
    u = (x - mean[..., None, None]) * ratio[..., None, None]
    u = torch.where(u.isnan(), -torch.inf, u)  # searchsorted has NaN above everything
    by_channel = u.transpose(0, 1).reshape(c, -1).contiguous()
    code = torch.searchsorted(thresholds(points).contiguous(), by_channel)
    return code.view(c, n, h, w).transpose(0, 1)


def points_of(codes: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return the points, int32 [N, C, H, W], of indices."""
    n, c, h, w = codes.shape
    if codes.numel() == 0:
        return points.new_empty(codes.shape)
    by_channel = codes.transpose(0, 1).reshape(c, -1)
    return torch.gather(points, 1, by_channel).view(c, n, h, w).transpose(0, 1)


def values_given(
    k: torch.Tensor, denominator: int, mean: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Return k * (scale / D) + mean, each step rounded to float32."""
    unit = scale / torch.full_like(scale, denominator)
    return k.to(torch.float32) * unit[..., None, None] + mean[..., None, None]


def quantize_given(
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Return the fake-quantized x for given statistics: bit for bit what every kernel gives."""
    codes = codes_given(x, points, denominator, mean, scale)
    return values_given(points_of(codes, points), denominator, mean, scale)


def check_ascending(operation: str, points: torch.Tensor, denominator: int) -> None:
    """Raise ValueError unless points ascend strictly in [-denominator, denominator]."""
    outside = (points < -denominator) | (points > denominator)
    if (points.diff(dim=1) <= 0).any() or outside.any():
        raise ValueError(
            f"{operation}: points must ascend strictly in every channel and lie in "
            "[-denominator, denominator]"
        )


def subset_fake_quant(
    x: torch.Tensor, points: torch.Tensor, nonnegative: torch.Tensor, denominator: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_subset(x, points, nonnegative, denominator)
    check_ascending("subset_fake_quant", points, denominator)
    if x.numel() == 0:
        empty = x.new_zeros(x.shape[:2], dtype=torch.float32)
        return torch.empty_like(x, memory_format=layout(x)), empty, empty.clone()
    mean, scale = channel_statistics(x, nonnegative)
    y = quantize_given(x.to(torch.float32), points, denominator, mean, scale)
    return y.to(x.dtype).contiguous(memory_format=layout(x)), mean, scale


def subset_encode(
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    check_encode("subset_encode", x, points, denominator, mean, scale)
    check_ascending("subset_encode", points, denominator)
    k = points_of(codes_given(x, points, denominator, mean, scale), points)
    return k.to(torch.int8).contiguous(memory_format=layout(x))


def subset_encode_packed(
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    bits: int,
) -> torch.Tensor:
    check_encode("subset_encode_packed", x, points, denominator, mean, scale, bits)
    check_ascending("subset_encode_packed", points, denominator)
    codes = codes_given(x, points, denominator, mean, scale)
    return pack_codes(codes.to(torch.uint8).permute(0, 2, 3, 1), bits)


def subset_decode(
    k: torch.Tensor, denominator: int, mean: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    check_decode(k, denominator, mean, scale)
    y = values_given(k, denominator, mean, scale)
    return y.contiguous(memory_format=layout(k))


def subset_decode_packed(
    packed: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    bits: int,
) -> torch.Tensor:
    check_decode_packed(packed, points, denominator, mean, scale, bits)
    check_ascending("subset_decode_packed", points, denominator)
    codes = unpack_codes(packed, bits, len(points)).permute(0, 3, 1, 2)
    if (codes >= points.shape[1]).any():
        raise ValueError(
            f"subset_decode_packed: a code is too large for {points.shape[1]} points a channel"
        )
    k = points_of(codes.long(), points)
    y = values_given(k, denominator, mean, scale)
    return y.contiguous(memory_format=torch.channels_last)


# Calls, not decorators: those would leave None in place of the functions.
for _function in (
    channel_stats,
    normalisation,
    subset_decode,
    subset_decode_packed,
    subset_encode,
    subset_encode_packed,
    subset_fake_quant,
):
    torch.library.register_kernel(f"ptqsr::{_function.__name__}", None, _function, lib=library)
