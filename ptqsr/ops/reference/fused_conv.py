"""Quantized convolutions with encoding and epilogue in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ptqsr.ops.reference.conv import exact_conv, refold_weights
from ptqsr.ops.reference.subset import channel_stats, subset_encode
from ptqsr.ops.reference.uniform import uniform_encode
from ptqsr.ops.schema.fused_conv import (
    check_subset_conv,
    check_uniform_conv,
    empty,
    empty_statistics,
)
from ptqsr.ops.schema.library import library


def subset_conv2d(
    x: list[torch.Tensor],
    points: torch.Tensor,
    mean: torch.Tensor,
    scale: torch.Tensor,
    denominator: int,
    levels: torch.Tensor,
    step: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    activation: str,
    slope: torch.Tensor | None,
    residual: torch.Tensor | None,
    last_activation: str,
    shuffle: int,
    statistics: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = check_subset_conv(
        x, points, mean, scale, denominator, levels, step, bias, stride, padding, dilation, groups,
        activation, slope, residual, last_activation, shuffle, statistics,
    )  # fmt: skip
    if not shape[0]:
        y = empty(x[0], shape, torch.float32)
        return y, *empty_statistics(y, shape, statistics)
    parts, start = [], 0
    for part in x:
        stop = start + part.shape[1]
        if part.dtype == torch.float32:
            span = slice(start, stop)
            part = subset_encode(part, points[span], denominator, mean[:, span], scale[:, span])
        parts.append(part)
        start = stop
    k = torch.cat(parts, 1)
    n, channels, height, width = k.shape
    weight, out_scale = refold_weights(levels, step, scale, groups)
    # Every sample has weights of its own: as groups of one convolution.
    acc = exact_conv(
        k.reshape(1, n * channels, height, width), weight.flatten(0, 1),
        stride, padding, dilation, n * groups,
    )  # fmt: skip
    acc = acc.view(n, -1, *acc.shape[2:]).to(torch.int32)
    picture = mean.double()[..., None, None].expand(n, channels, height, width)
    w = levels.to(torch.float32) * step.view(-1, 1, 1, 1)
    term = exact_conv(picture, w, stride, padding, dilation, groups)
    if bias is not None:
        term = term + bias.double().view(-1, 1, 1)
    factor = out_scale / torch.full_like(out_scale, denominator)
    y = acc.to(torch.float32) * factor[..., None, None] + term.to(torch.float32)
    y = activate(y, activation, slope)
    if residual is not None:
        y = y + residual
    y = F.pixel_shuffle(activate(y, last_activation, None), shuffle)
    y = empty(x[0], shape, torch.float32).copy_(y)
    if not statistics:
        return y, *empty_statistics(y, shape, False)
    return y, *channel_stats(y)


def uniform_conv2d(
    x: list[torch.Tensor],
    in_step: torch.Tensor,
    in_lowest: torch.Tensor,
    in_bits: int,
    levels: torch.Tensor,
    step: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    activation: str,
    slope: torch.Tensor | None,
    residual: torch.Tensor | None,
    residual_step: torch.Tensor | None,
    residual_lowest: torch.Tensor | None,
    last_activation: str,
    shuffle: int,
    out_step: torch.Tensor | None,
    out_lowest: torch.Tensor | None,
    out_bits: int,
) -> torch.Tensor:
    shape = check_uniform_conv(
        x, in_step, in_lowest, in_bits, levels, step, bias, stride, padding, dilation, groups,
        activation, slope, residual, residual_step, residual_lowest, last_activation, shuffle,
        out_step, out_lowest, out_bits,
    )  # fmt: skip
    codes = [
        uniform_encode(part, in_step, in_lowest, in_bits) if part.is_floating_point() else part
        for part in x
    ]
    inputs = torch.cat(codes, 1).to(torch.int32)
    if inputs.numel() and inputs.max() >= 1 << in_bits:
        raise ValueError(f"uniform_conv2d: a code of x is 2^{in_bits} or more")
    inputs += in_lowest
    acc = exact_conv(inputs, levels, stride, padding, dilation, groups).to(torch.int32)
    one = torch.ones_like(in_step)
    unit = one if out_step is None else out_step
    # Dividing by a unit of 1 changes nothing.
    y = acc.to(torch.float32) * (in_step * step / unit).view(-1, 1, 1)
    if bias is not None:
        y = y + (bias / unit).view(-1, 1, 1)
    y = activate(y, activation, slope)
    if residual is not None:
        if residual_step is None or residual_lowest is None:
            added, factor = residual, one / unit
        else:
            added = (residual.to(torch.int32) + residual_lowest).to(torch.float32)
            factor = residual_step / unit
        y = y + added * factor
    y = F.pixel_shuffle(activate(y, last_activation, None), shuffle)
    if out_step is None or out_lowest is None:
        return empty(x[0], shape, torch.float32).copy_(y)
    return empty(x[0], shape, torch.uint8).copy_(uniform_encode(y, one, out_lowest, out_bits))


def activate(y: torch.Tensor, activation: str, slope: torch.Tensor | None) -> torch.Tensor:
    """Return the activation of y; a slope belongs to all channels, or to each its own."""
    if activation == "relu":
        return torch.relu(y)
    if activation == "leaky":
        assert slope is not None
        return torch.where(y > 0, y, y * slope.view(-1, 1, 1))
    return y


# Calls, not decorators: those would leave None in place of the functions.
torch.library.register_kernel("ptqsr::subset_conv2d", None, subset_conv2d, lib=library)
torch.library.register_kernel("ptqsr::uniform_conv2d", None, uniform_conv2d, lib=library)
