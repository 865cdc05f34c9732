"""Quantizers out of operations that every runtime has, none of ptqsr's own.

For ONNX, some are nodes that PyTorch has no words for: they are put into the graph by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ptqsr.ops.reference.subset import SMALLEST_SCALE
from ptqsr.quantizers import OffsetQuantizer, SubsetQuantizer, UniformQuantizer, displaced

OPSET = 18


def node(
    op: str,
    inputs: Sequence[torch.Tensor | None],
    dtype: torch.dtype,
    shape: Any,
    **attributes: Any,
) -> torch.Tensor:
    """Return what an ONNX node gives; it has no value but in an exported graph."""
    from torch.onnx.ops import symbolic

    return symbolic(op, inputs, attributes, dtype=dtype, shape=shape, version=OPSET)


class Displaced(nn.Module):
    """What UniformQuantizer and OffsetQuantizer have in common: (x + shift) * gain comes first."""

    step: torch.Tensor
    shift: torch.Tensor | None
    gain: torch.Tensor | None

    def __init__(self, quantizer: UniformQuantizer) -> None:
        super().__init__()
        offsets = quantizer if isinstance(quantizer, OffsetQuantizer) else None
        self.register_buffer("step", quantizer.step.detach())
        for name in ("shift", "gain"):
            self.register_buffer(name, offsets.values(name) if offsets else None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.quantized(displaced(x, self.shift, self.gain))

    def quantized(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class LinearNodes(Displaced):
    """A static quantizer as QuantizeLinear and DequantizeLinear: uint8 codes, level - lowest.

    They saturate at 0 and 255; `top` is the last code where there are fewer.
    """

    zero: torch.Tensor
    top: torch.Tensor | None

    def __init__(self, quantizer: UniformQuantizer) -> None:
        super().__init__(quantizer)
        last = quantizer.levels - 1
        self.register_buffer("zero", (-quantizer.lowest).to(torch.uint8))
        self.register_buffer("top", torch.tensor(last, dtype=torch.uint8) if last < 255 else None)

    def quantized(self, x: torch.Tensor) -> torch.Tensor:
        codes = node("QuantizeLinear", [x, self.step, self.zero], torch.uint8, x.shape)
        if self.top is not None:
            codes = node("Clip", [codes, None, self.top], torch.uint8, x.shape)
        return node("DequantizeLinear", [codes, self.step, self.zero], torch.float32, x.shape)


class PlainUniform(Displaced):
    """The same for PyTorch: clamp(round(x / step), lowest, highest) * step."""

    def __init__(self, quantizer: UniformQuantizer) -> None:
        super().__init__(quantizer)
        self.lowest = int(quantizer.lowest)
        self.highest = self.lowest + quantizer.levels - 1

    def quantized(self, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x / self.step).clamp(self.lowest, self.highest) * self.step


class PlainSubset(nn.Module):
    """SubsetQuantizer by a table for every channel: what a value u in units of the grid becomes.

    Thresholds are whole or half numbers, so that all u between two halves have the same point.
    2u is rounded away from 0: cell j > 0 holds 2u in (j - 1, j], j < 0 those in [j, j + 1), and 0
    is alone, which is how ties go to the smaller magnitude and at 0 to the positive point. For
    given statistics the result is that of ops.quantize_given, bit for bit.
    """

    table: torch.Tensor
    starts: torch.Tensor
    nonnegative: torch.Tensor
    denominator: torch.Tensor
    doubled: torch.Tensor

    def __init__(self, parts: list[SubsetQuantizer], *, onnx: bool) -> None:
        super().__init__()
        self.onnx = onnx
        d = parts[0].universal_set.denominator
        points = torch.cat([part.points for part in parts])
        # One cell more at either end: 2u = 2D may come out a rounding error larger.
        cells = torch.arange(-2 * d - 1, 2 * d + 2)
        doubled = (points[:, :-1] + points[:, 1:]).to(torch.int64)  # the thresholds
        # u > t where t > 0, u >= t elsewhere: for whole 2t that is a comparison of cells.
        first = torch.where(doubled > 0, doubled + 1, doubled)
        code = torch.searchsorted(first, cells.expand(len(points), -1).contiguous(), right=True)
        table = torch.gather(points, 1, code).to(torch.float32)
        starts = torch.arange(len(points)) * len(cells) + 2 * d + 1
        self.register_buffer("table", table.flatten())
        self.register_buffer("starts", starts.view(-1, 1, 1))
        self.register_buffer("nonnegative", torch.cat([part.nonnegative for part in parts]))
        # Tensors, since dividing by or into a number may multiply by a reciprocal instead.
        self.register_buffer("denominator", torch.tensor(float(d)))
        self.register_buffer("doubled", torch.tensor(2.0 * d))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, scale = self._statistics(x)
        ratio = torch.where(scale == 0, 0.0, self.doubled / scale)
        v = (x - mean) * ratio
        cell = torch.sign(v) * torch.ceil(v.abs())
        return self._points(cell) * (scale / self.denominator) + mean

    def _points(self, cell: torch.Tensor) -> torch.Tensor:
        if not self.onnx:
            return torch.take(self.table, cell.to(torch.int64) + self.starts)
        index = cell.to(torch.int32) + self.starts.to(torch.int32)
        return node("Gather", [self.table, index], torch.float32, cell.shape)

    def _statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and scale of every sample and channel, [N, C, 1, 1]."""
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        # By rows first: sums of fewer numbers lose less.
        mean = x.mean(3, keepdim=True).mean(2, keepdim=True)
        mean = torch.where(low == high, low, mean)
        mean = torch.where(self.nonnegative.view(-1, 1, 1), 0.0, mean)
        scale = torch.maximum(high - mean, mean - low)
        return mean, torch.where(scale < SMALLEST_SCALE, 0.0, scale)
