"""Subset quantization in plain PyTorch."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.library import layout, library
from ptqsr.ops.schema.subset import check_subset

# Below this a scale counts as 0, so that its reciprocal is no infinity.
SMALLEST_SCALE = 2.0**-100
# A channel with a larger magnitude, or with NaN, comes out as NaN.
LARGEST_VALUE = 2.0**120


def channel_statistics(
    x: torch.Tensor, nonnegative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (mean, scale), float32 [N, C], of x [N, C, H, W] (DESIGN, section 1).

    The mean is 0 where `nonnegative`; the scale is max |x - mean|, 0 where below 2^-100.
    """
    low, high = x.amin((2, 3)), x.amax((2, 3))
    # Summed in float64 the mean is exact to the last float32 place: contract 1 asks for less.
    mean = x.mean((2, 3), dtype=torch.float64).to(torch.float32)
    mean = torch.where(low == high, low, mean)
    mean = torch.where(nonnegative, torch.zeros_like(mean), mean)
    scale = torch.maximum(high - mean, mean - low)
    scale = torch.where(scale < SMALLEST_SCALE, torch.zeros_like(scale), scale)
    sound = (low > -LARGEST_VALUE) & (high < LARGEST_VALUE)
    return torch.where(sound, mean, torch.nan), torch.where(sound, scale, torch.nan)


def thresholds(points: torch.Tensor) -> torch.Tensor:
    """Return the thresholds, float32 [C, L - 1], between points [C, L]: x > t goes up.

    Half-integers, those <= 0 one float lower (0: -2^-126), so that one comparison sends ties to
    the smaller magnitude, and at 0 to the positive point.
    """
    t = (points[:, :-1].long() + points[:, 1:].long()).to(torch.float32) * 0.5
    lower = torch.nextafter(t, torch.full_like(t, -torch.inf))
    lower = torch.where(t == 0, torch.full_like(t, -(2.0**-126)), lower)
    return torch.where(t > 0, t, lower)


def quantize_given(
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Return the fake-quantized x for given statistics: bit for bit what every kernel gives."""
    n, c, h, w = x.shape
    # A tensor, not a number: PyTorch multiplies by the reciprocal instead, which rounds twice.
    d = torch.full_like(scale, denominator)
    ratio = torch.where(scale == 0, torch.zeros_like(scale), d / scale)
    u = (x - mean[..., None, None]) * ratio[..., None, None]
    by_channel = u.transpose(0, 1).reshape(c, -1).contiguous()
    code = torch.searchsorted(thresholds(points).contiguous(), by_channel)
    k = torch.gather(points.to(torch.float32), 1, code).view(c, n, h, w).transpose(0, 1)
    return k * (scale / d)[..., None, None] + mean[..., None, None]


def subset_fake_quant(
    x: torch.Tensor, points: torch.Tensor, nonnegative: torch.Tensor, denominator: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_subset(x, points, nonnegative, denominator)
    if (points.diff(dim=1) <= 0).any() or (points.abs() > denominator).any():
        raise ValueError(
            "subset_fake_quant: points must ascend strictly in every channel and lie in "
            "[-denominator, denominator]"
        )
    if x.numel() == 0:
        empty = x.new_zeros(x.shape[:2])
        return torch.empty_like(x, memory_format=layout(x)), empty, empty.clone()
    mean, scale = channel_statistics(x, nonnegative)
    y = quantize_given(x, points, denominator, mean, scale)
    return y.contiguous(memory_format=layout(x)), mean, scale


# A call, not a decorator: that would leave None in place of the function.
torch.library.register_kernel("ptqsr::subset_fake_quant", None, subset_fake_quant, lib=library)
