"""Convolutions in integers, as functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Pair = int | Sequence[int]


def int_conv2d(
    k: torch.Tensor,
    weight: torch.Tensor,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Convolve integers exactly: int32 [N, O, H', W'] in channels_last, zero padding.

    k: int8 or uint8 [N, C, H, W]; weight: int8 [O, C/groups, K, K]. Raises ValueError or TypeError
    for what does not fit, as all convolutions here.
    """
    return torch.ops.ptqsr.int_conv2d(
        k, weight, _pair(stride), _pair(padding), _pair(dilation), groups
    )


def refold_weights(
    levels: torch.Tensor, step: torch.Tensor, scale: torch.Tensor, groups: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fold the scales of input channels into weights, and quantize these to int8 again.

    levels: int16 [O, C/g, K, K], codes + zero point; step: float32 [O]; scale: float32 [N, C].
    Returns (weight int8 [N, O, C/g, K, K], out_scale float32 [N, O]), so that weight * out_scale is
    nearly w * scale. Each step is one float32 operation: w = levels * step; m = w * scale;
    out_scale = max |m| / 127; weight = clamp(rint(m / out_scale), -127, 127), 0 where out_scale is
    0 or NaN. A scale that is NaN makes out_scale NaN for all kernels that read it.
    """
    return torch.ops.ptqsr.refold_weights(levels, step, scale, groups)


def shift_add_conv2d(
    codes: torch.Tensor,
    shifts: torch.Tensor,
    weight: torch.Tensor,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Convolve points of a universal set without multiplying: as `int_conv2d`, of their codes.

    The golden model for hardware: every product is one shift and add for each word. codes: int32
    [N, C, H, W]; shifts: int32 [W, E], the exponent e of each word's elements 2^e, -1 for the
    element 0; weight: int8 or int16 [O, C/g, K, K]. With w = ceil(log2(E)), a code is

        bit   0 .. w-1   w .. 2w-1   ...   W w
              word 0     word 1            sign (1: negative)

    each word holding the index of its element. `UniversalSet.shift_codes` gives the codes of every
    point. Code 0 stands for 0 only where every word's first element is 0; zero padding is 0 in any
    case. Sums wrap around as int32 does. Bit-equal to `int_conv2d` of the points where int8 holds
    them.
    """
    return torch.ops.ptqsr.shift_add_conv2d(
        codes, shifts, weight, _pair(stride), _pair(padding), _pair(dilation), groups
    )


def subset_conv2d(
    x: Sequence[torch.Tensor],
    points: torch.Tensor,
    mean: torch.Tensor,
    scale: torch.Tensor,
    denominator: int,
    levels: torch.Tensor,
    step: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: str = "none",
    slope: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    last_activation: str = "none",
    shuffle: int = 1,
    out_dtype: torch.dtype = torch.float32,
    statistics: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Convolve subset-quantized input in int8 (DFSQ), with what stands before and after it.

    x: the parts of a concatenation along channels, each float32 or float16, encoded here, or int8
    points k.
    points: int32 [C, L]; mean, scale: float32 [N, C] of the whole, as `normalisation` gives them;
    the input is k * scale / denominator + mean, padding is 0. denominator <= 127. levels: int16
    [O, C/g, K, K] and step: float32 [O], the weights levels * step.

    Returns y in channels_last: in this order, each step rounded to float32,

        acc = the integer convolution of k with `refold_weights`
        y = acc * (out_scale / denominator) + T
        y = activation(y)     "none", "relu", or "leaky": y > 0 ? y : y * slope ([1] or [O])
        y = y + residual      float32 or float16, of y's shape; only with shuffle 1
        y = last_activation(y)   "none" or "relu"
        y = pixel_shuffle(y, shuffle)

    and last to out_dtype, float32 or float16, half to even.

    T is the bias plus, summed in float64, mean * weight over the taps inside the picture. Then
    (mean, low, high), float32 [N, O / shuffle^2], of y as stored, for `normalisation`, with
    `statistics`; else three tensors of no elements. NaN in mean or scale comes out as NaN wherever
    the channel is read.
    """
    return torch.ops.ptqsr.subset_conv2d(
        list(x), points, mean, scale, denominator, levels, step, bias,
        _pair(stride), _pair(padding), _pair(dilation), groups,
        activation, slope, residual, last_activation, shuffle, out_dtype, statistics,
    )  # fmt: skip


def uniform_conv2d(
    x: Sequence[torch.Tensor],
    in_step: torch.Tensor,
    in_lowest: torch.Tensor,
    in_bits: int,
    levels: torch.Tensor,
    step: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: str = "none",
    slope: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    residual_step: torch.Tensor | None = None,
    residual_lowest: torch.Tensor | None = None,
    last_activation: str = "none",
    shuffle: int = 1,
    out_dtype: torch.dtype | None = None,
    out_step: torch.Tensor | None = None,
    out_lowest: torch.Tensor | None = None,
    out_bits: int = 8,
    in_levels: torch.Tensor | None = None,
    out_levels: int | None = None,
) -> torch.Tensor:
    """Convolve uniformly quantized input in integers, with what stands before and after it.

    x: the parts of a concatenation along channels, each float32 or float16, encoded here to levels
    clamp(rint(x / in_step), in_lowest, in_lowest + in_levels - 1), or uint8 codes: level less
    in_lowest. Steps are float32 scalars, lowest levels int32 scalars, in_levels an int32 scalar up
    to 2^in_bits, which None stands for; or all three are [N]: every sample has its own (None: all
    2^in_bits). levels: int16 [O, C/g, K, K]
    and step: float32 [O], the weights; a kernel's levels lie in [-255, 255] and span 255 at most.
    acc, the convolution of the levels, is exact; padding is 0.

    Without out_step the result is float32, or out_dtype float16: y = acc * (in_step * step) + bias,
    then activation, residual (uint8 codes: (code + residual_lowest) * residual_step), last
    activation, pixel shuffle and rounding as in `subset_conv2d`. With it everything is in units of
    out_step,

        v = acc * ((in_step * step) / out_step) + bias / out_step
        v = activation(v)
        v = v + residual * (1 / out_step), of codes (code + lowest) * (residual_step / out_step)
        v = last_activation(v)

    and the result uint8, clamp(rint(v), out_lowest, out_lowest + out_levels - 1) - out_lowest, NaN
    as the lowest level; out_levels up to 2^out_bits, which None stands for. Each step is rounded to
    float32; the result is in channels_last.

    torch.ops.ptqsr.uniform_conv2d_moments takes the same, without out_step, and returns (y, mean,
    deviation): what `channel_moments` gives of y.
    """
    if out_dtype is None:
        out_dtype = torch.float32 if out_step is None else torch.uint8
    return torch.ops.ptqsr.uniform_conv2d(
        list(x), in_step, in_lowest, in_bits, levels, step, bias,
        _pair(stride), _pair(padding), _pair(dilation), groups,
        activation, slope, residual, residual_step, residual_lowest, last_activation, shuffle,
        out_dtype, out_step, out_lowest, out_bits, in_levels, out_levels,
    )  # fmt: skip


def _pair(value: Pair) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
