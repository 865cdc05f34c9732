"""Convolutions of a universal set's points on tensor cores.

Two launches: what a layer multiplies and adds for given statistics, then the convolution, which
encodes one float16 input on the way and gives the statistics of a float16 result. Other inputs are
encoded, other results measured, in a pass of their own.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from ptqsr.ops.cuda.kernel import kernel, stream_of
from ptqsr.ops.cuda.subset import channel_stats, subset_encode
from ptqsr.ops.cuda.tensor_conv import (
    MOMENTS,
    PIECE,
    SLAB,
    Border,
    Layout,
    aligned,
    as_rows,
    borders,
    classes,
    launch,
    layout_of,
)
from ptqsr.ops.reference import fused_conv as reference
from ptqsr.ops.schema.checks import empty
from ptqsr.ops.schema.fused_conv import SubsetConv, empty_statistics

MOST_POINTS = 16  # of csrc/cuda/points.h


@kernel(reference.subset_conv2d)
def subset_conv2d(
    module: ModuleType, *arguments: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    conv = SubsetConv(*arguments)
    y = empty(conv.x[0], conv.out, conv.out_dtype)
    if not y.numel():
        return y, *empty_statistics(y, conv.statistics)
    layout = layout_of(conv, 8)
    if layout is None:
        return reference.subset_conv2d(*arguments)
    moments = _moments(y) if conv.statistics and y.dtype == torch.float16 else {}
    rows, columns = borders(conv)
    tables = _tables(module, conv, layout, rows, columns, moments)
    slope = None if conv.slope is None else layout.spread(conv.slope.expand(conv.sums[1]))
    x = _encoded_within(conv)
    if x is None:
        x = as_rows(_codes(module, conv), conv.groups, 8, conv.points.new_zeros(()))
    of_x = {"points": conv.points, "mean": conv.mean, "in_scale": conv.scale}
    of_x = {name: tensor.contiguous() for name, tensor in of_x.items()}
    tensors = {**tables, **moments, **of_x, "slope": slope}
    taken = launch(module, conv, layout, x, y, tensors, rows, columns)
    if not taken:
        return reference.subset_conv2d(*arguments)
    if moments:
        return y, moments["out_mean"], moments["out_low"], moments["out_high"]
    if conv.statistics:
        return y, *channel_stats(module, y)
    return y, *empty_statistics(y, False)


def _tables(
    module: ModuleType,
    conv: SubsetConv,
    layout: Layout,
    rows: Border,
    columns: Border,
    moments: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Return `weights`, `scale` and `bias` of TensorConv, and begin the moments."""
    n, _, h, w = conv.x[0].shape
    kernels, per_group, kh, kw = conv.levels.shape
    channels = conv.points.shape[0]
    rounds = -(-per_group // SLAB)
    new = conv.mean.new_empty
    made = {
        "weights": new((n, layout.channels, rounds, kh * kw, SLAB), dtype=torch.int8),
        "scale": new((n, layout.channels)),
        "terms": new((n, classes(rows), classes(columns), layout.channels)),
    }
    given = {
        "levels": conv.levels.contiguous(),
        "step": conv.step.contiguous(),
        "in_scale": conv.scale.contiguous(),
        "mean": conv.mean.contiguous(),
        "bias": None if conv.bias is None else conv.bias.contiguous(),
    }
    addresses = {**given, **made, **dict.fromkeys(MOMENTS), **moments}
    module.subset_tables({
        **{name: 0 if t is None else t.data_ptr() for name, t in addresses.items()},
        "shape": [
            n, kernels, channels, kh * kw, conv.groups, conv.denominator, layout.places,
            layout.channels, h, w, kh, kw, *conv.stride, *conv.padding, *conv.dilation,
        ],
        "rows": rows,
        "columns": columns,
        "stream": stream_of(conv.mean),
    })  # fmt: skip
    return {"weights": made["weights"], "scale": made["scale"], "bias": made["terms"]}


def _encoded_within(conv: SubsetConv) -> torch.Tensor | None:
    """Return x as float16 rows where the convolution encodes it on the way; None elsewhere.

    That is where it is one tensor of whole pieces, with no more points than its tables hold.
    """
    x = conv.x[0]
    if len(conv.x) > 1 or x.dtype != torch.float16 or conv.points.shape[1] > MOST_POINTS:
        return None
    if x.shape[1] // conv.groups % PIECE:
        return None
    return aligned(x.permute(0, 2, 3, 1).contiguous())


def _codes(module: ModuleType, conv: SubsetConv) -> list[torch.Tensor]:
    """Return the points of every part of x."""
    found, start = [], 0
    for part in conv.x:
        span = slice(start, start + part.shape[1])
        start += part.shape[1]
        if part.is_floating_point():
            part = subset_encode(
                module, part.contiguous(memory_format=torch.channels_last), conv.points[span],
                conv.denominator, conv.mean[:, span], conv.scale[:, span],
            )  # fmt: skip
        found.append(part)
    return found


def _moments(y: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the places where a convolution adds up what it stores, and puts its statistics."""
    n, channels = y.shape[:2]
    sums = y.new_empty((n, channels), dtype=torch.int64)
    low, high = (y.new_empty((n, channels), dtype=torch.int32) for _ in range(2))
    blocks = y.new_empty(1, dtype=torch.int32)
    found = (sums, low, high, blocks, *empty_statistics(y, True))
    return dict(zip(MOMENTS, found, strict=True))
