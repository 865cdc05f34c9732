"""Quantized convolutions with encoding and epilogue in plain PyTorch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ptqsr.ops.reference.conv import exact_conv, refold_weights
from ptqsr.ops.reference.subset import channel_stats, subset_encode
from ptqsr.ops.reference.uniform import uniform_encode
from ptqsr.ops.schema.checks import empty
from ptqsr.ops.schema.fused_conv import SubsetConv, UniformConv, empty_statistics
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
    conv = UniformConv(*arguments)
    inputs = torch.cat(_levels(conv), 1)
    acc = exact_conv(inputs, conv.levels, *conv.geometry).to(torch.int32)
    one = torch.ones_like(conv.in_step)
    unit = one if conv.out_step is None else conv.out_step
    # Dividing by a unit of 1 changes nothing.
    v = acc.to(torch.float32) * (conv.in_step * conv.step / unit).view(-1, 1, 1)
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
    y = empty(conv.x[0], conv.out, conv.out_dtype)
    if conv.out_lowest is None:
        return y.copy_(v)
    return y.copy_(uniform_encode(v, one, conv.out_lowest, conv.out_bits))


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


def _levels(conv: UniformConv) -> list[torch.Tensor]:
    """Return the levels of every part of x, int32."""
    found = []
    for part in conv.x:
        if part.is_floating_point():
            part = part.to(torch.float32)
            part = uniform_encode(part, conv.in_step, conv.in_lowest, conv.in_bits)
        # On a GPU looking would be waiting.
        elif part.device.type == "cpu" and part.numel() and int(part.max()) >= 1 << conv.in_bits:
            raise ValueError(f"uniform_conv2d: a code of x is 2^{conv.in_bits} or more")
        found.append(part.to(torch.int32) + conv.in_lowest)
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
torch.library.register_kernel("ptqsr::subset_conv2d", None, subset_conv2d, lib=library)
torch.library.register_kernel("ptqsr::uniform_conv2d", None, uniform_conv2d, lib=library)
