"""Quantized convolutions with encoding and epilogue in plain PyTorch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ptqsr.ops.reference.conv import exact_conv, refold_weights
from ptqsr.ops.reference.moments import channel_moments
from ptqsr.ops.reference.subset import channel_stats, subset_encode
from ptqsr.ops.reference.uniform import encoded
from ptqsr.ops.schema.checks import empty
from ptqsr.ops.schema.fused_conv import MeasuredConv, SubsetConv, UniformConv, empty_statistics
from ptqsr.ops.schema.library import library


def subset_conv2d(
    *arguments: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    conv = SubsetConv(*arguments)
    y = empty(conv.x[0], conv.out, conv.out_dtype)
    if not conv.out[0]:
        return y, *empty_statistics(y, conv.statistics)
    k = torch.cat(_points(conv), 1)
    n, channels, height, width = k.shape
    weight, out_scale = refold_weights(conv.levels, conv.step, conv.scale, conv.groups)
    # Every sample has weights of its own: as groups of one convolution.
    acc = exact_conv(
        k.reshape(1, n * channels, height, width), weight.flatten(0, 1),
        conv.stride, conv.padding, conv.dilation, n * conv.groups,
    )  # fmt: skip
    acc = acc.view(n, -1, *acc.shape[2:]).to(torch.int32)
    picture = conv.mean.double()[..., None, None].expand(n, channels, height, width)
    w = conv.levels.to(torch.float32) * conv.step.view(-1, 1, 1, 1)
    term = exact_conv(picture, w, *conv.geometry)
    if conv.bias is not None:
        term = term + conv.bias.double().view(-1, 1, 1)
    factor = out_scale / torch.full_like(out_scale, conv.denominator)
    v = acc.to(torch.float32) * factor[..., None, None] + term.to(torch.float32)
    v = activate(v, conv.activation, conv.slope)
    if conv.residual is not None:
        v = v + conv.residual.to(torch.float32)
    v = F.pixel_shuffle(activate(v, conv.last_activation, None), conv.shuffle)
    y.copy_(v)
    if not conv.statistics:
        return y, *empty_statistics(y, False)
    return y, *channel_stats(y.to(torch.float32))


def uniform_conv2d(*arguments: Any) -> torch.Tensor:
    return convolved(UniformConv(*arguments))


def uniform_conv2d_moments(
    *arguments: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    y = convolved(MeasuredConv(*arguments))
    return y, *channel_moments(y)


def convolved(conv: UniformConv) -> torch.Tensor:
    """Return what uniform_conv2d gives."""
    y = empty(conv.x[0], conv.out, conv.out_dtype)
    if not conv.out[0]:
        return y
    step, lowest, count = (by_sample(t) for t in (conv.in_step, conv.in_lowest, levels_of(conv)))
    inputs = torch.cat(_levels(conv, step, lowest, count), 1)
    acc = exact_conv(inputs, conv.levels, *conv.geometry).to(torch.int32)
    one = conv.in_step.new_ones(())
    unit = one if conv.out_step is None else conv.out_step
    # Dividing by a unit of 1 changes nothing.
    v = acc.to(torch.float32) * (step * conv.step.view(-1, 1, 1) / unit)
    if conv.bias is not None:
        v = v + (conv.bias / unit).view(-1, 1, 1)
    v = activate(v, conv.activation, conv.slope)
    if conv.residual is not None:
        if conv.residual_step is None or conv.residual_lowest is None:
            added, factor = conv.residual.to(torch.float32), one / unit
        else:
            added = (conv.residual.to(torch.int32) + conv.residual_lowest).to(torch.float32)
            factor = conv.residual_step / unit
        v = v + added * factor
    v = F.pixel_shuffle(activate(v, conv.last_activation, None), conv.shuffle)
    if conv.out_lowest is None:
        return y.copy_(v)
    most = 1 << conv.out_bits if conv.out_levels is None else conv.out_levels
    return y.copy_(encoded(v, one, conv.out_lowest, most))


def by_sample(values: torch.Tensor) -> torch.Tensor:
    """Return a scalar as it is, [N] beside [N, C, H, W]."""
    return values.view(-1, 1, 1, 1) if values.ndim else values


def levels_of(conv: UniformConv) -> torch.Tensor:
    """Return how many levels the input has, int32 as in_lowest."""
    if conv.in_levels is None:
        return torch.full_like(conv.in_lowest, 1 << conv.in_bits)
    return conv.in_levels


def _points(conv: SubsetConv) -> list[torch.Tensor]:
    """Return the points of every part of x."""
    found, start = [], 0
    for part in conv.x:
        stop = start + part.shape[1]
        if part.is_floating_point():
            span = slice(start, stop)
            part = subset_encode(
                part.to(torch.float32), conv.points[span], conv.denominator,
                conv.mean[:, span], conv.scale[:, span],
            )  # fmt: skip
        found.append(part)
        start = stop
    return found


def _levels(
    conv: UniformConv, step: torch.Tensor, lowest: torch.Tensor, count: torch.Tensor
) -> list[torch.Tensor]:
    """Return the levels of every part of x, int32."""
    found = []
    for part in conv.x:
        if part.is_floating_point():
            part = encoded(part, step, lowest, count)
        # On a GPU looking would be waiting.
        elif part.device.type == "cpu" and bool((part.int() >= count).any()):
            raise ValueError(f"{conv.op}: a code of x is 2^in_bits, or in_levels, or more")
        found.append(part.to(torch.int32) + lowest)
    return found


def activate(y: torch.Tensor, activation: str, slope: torch.Tensor | None) -> torch.Tensor:
    """Return the activation of y; a slope belongs to all channels, or to each its own."""
    if activation == "relu":
        return torch.relu(y)
    if activation == "leaky":
        assert slope is not None
        return torch.where(y > 0, y, y * slope.view(-1, 1, 1))
    return y


# Calls, not decorators: those would leave None in place of the functions.
for _function in (subset_conv2d, uniform_conv2d, uniform_conv2d_moments):
    torch.library.register_kernel(f"ptqsr::{_function.__name__}", None, _function, lib=library)
