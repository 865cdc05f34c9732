"""Layers out of operations that every runtime has.

For ONNX, a weight is a node of the domain `ptqsr`, lest an optimiser computes it once and for all,
in floating point; `onnx_graph` makes a DequantizeLinear of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr.exporting.standard import node
from ptqsr.models.fitting import Fit
from ptqsr.models.layers import BicubicUpsample, MeanShift
from ptqsr.modules import FakeQuantConv2d, geometry

WEIGHT = "ptqsr::Weight"


class PlainConv(nn.Module):
    """FakeQuantConv2d with its weight as integers: float32 in and out.

    codes: int8 [O, I/groups, K, K]; step: float32 [O]; zero: int8 [O], subtracted from the codes.
    name: the layer's, for ONNX.
    """

    codes: torch.Tensor
    step: torch.Tensor
    zero: torch.Tensor

    def __init__(
        self,
        layer: FakeQuantConv2d,
        quantizer: nn.Module,
        weight: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        name: str | None,
    ) -> None:
        super().__init__()
        self.quantizer, self.name = quantizer, name
        # Its geometry and bias: what else the layer has would be exported, too.
        self.conv = nn.Conv2d(**geometry(layer), device="meta")
        del self.conv.weight
        self.conv.bias = layer.bias
        for part, tensor in zip(("codes", "step", "zero"), weight, strict=True):
            self.register_buffer(part, tensor)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = self.quantizer(input)
        return self.conv._conv_forward(x, self._weight(), self.conv.bias)

    def _weight(self) -> torch.Tensor:
        if self.name is not None:
            parts = [self.codes, self.step, self.zero]
            return node(WEIGHT, parts, torch.float32, self.codes.shape, layer=self.name)
        levels = self.codes.to(torch.float32) - self.zero.to(torch.float32).view(-1, 1, 1, 1)
        return levels * self.step.view(-1, 1, 1, 1)


class PlainShift(nn.Module):
    """MeanShift with its gains as they are, not as a matrix."""

    gain: torch.Tensor
    bias: torch.Tensor

    def __init__(self, layer: MeanShift) -> None:
        super().__init__()
        self.register_buffer("gain", layer.weight[:, :, 0, 0].diagonal().view(-1, 1, 1).clone())
        self.register_buffer("bias", layer.bias.view(-1, 1, 1).clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gain + self.bias


class PlainBicubic(nn.Module):
    """BicubicUpsample in float32: runtimes convolve no float64."""

    taps: torch.Tensor

    def __init__(self, layer: BicubicUpsample) -> None:
        super().__init__()
        self.scale = layer.scale
        self.register_buffer("taps", layer.taps.to(torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
        phases = F.conv2d(padded.reshape(n * c, 1, h + 4, w + 4), self.taps)
        enlarged = F.pixel_shuffle(phases, self.scale)
        return enlarged.view(n, c, h * self.scale, w * self.scale)


class PlainFit(nn.Module):
    """Fit by the index of every row and column: no size is a special case."""

    def __init__(self, layer: Fit) -> None:
        super().__init__()
        self.minimum, self.multiple = layer.minimum, layer.multiple

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        return x.index_select(2, self._index(height)).index_select(3, self._index(width))

    def cut(self, y: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return y.index_select(2, torch.arange(height)).index_select(3, torch.arange(width))

    def _index(self, side: int) -> torch.Tensor:
        """Return 0, 1, ..., the last, then back to 0, and 0 from there on."""
        steps = (torch.sym_max(side, self.minimum) + self.multiple - 1) // self.multiple
        last = side - 1
        beside = (torch.arange(steps * self.multiple) - last).abs()
        return last - beside.clamp(max=last)
