"""PyTorch's own int8: EDSR's blocks through the operations that its compiler would emit.

torch.ops.onednn.qconv2d_pointwise: uint8 activations (it refuses int8), int8 weights per output
channel, channels_last, requantization and ReLU fused, the residual added in place ("sum").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr.benchmarking.task import Unavailable
from ptqsr.models import SRNetwork
from ptqsr.models.edsr import EDSR, RGB_RANGE, ResBlock


@dataclass(frozen=True)
class Encoding:
    """A real value is (code - zero_point) * scale, the code uint8."""

    scale: float
    zero_point: int

    @classmethod
    def of(cls, x: torch.Tensor) -> Encoding:
        """Return the encoding of the range of x; 0 has a code of its own."""
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 1e-6)
        scale = (high - low) / 255
        return cls(scale, round(-low / scale))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        codes = (x / self.scale).round_().add_(self.zero_point).clamp_(0, 255)
        return codes.to(torch.uint8)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.float().sub_(self.zero_point).mul_(self.scale)


class Int8Conv:
    """A convolution with stride 1 from codes to codes, uint8 [N, C, H, W] in channels_last."""

    def __init__(self, conv: nn.Conv2d, x: Encoding, y: Encoding, shape: torch.Size) -> None:
        self.x, self.y, self.bias = x, y, conv.bias
        weight = conv.weight.detach()
        self.scales = weight.abs().amax((1, 2, 3)) / 127
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        codes = (weight / self.scales.view(-1, 1, 1, 1)).round().to(torch.int8)
        # stride, padding, dilation, groups
        self.geometry = ([1, 1], list(conv.padding), [1, 1], 1)
        self.weight = torch.ops.onednn.qconv_prepack(
            codes, self.scales, x.scale, x.zero_point, *self.geometry, list(shape)
        )

    def relu(self, x: torch.Tensor) -> torch.Tensor:
        """Return the codes of max(convolution, 0)."""
        y: torch.Tensor = torch.ops.onednn.qconv2d_pointwise(
            *(x, self.x.scale, self.x.zero_point, self.weight, self.scales, self.zeros, self.bias),
            *(*self.geometry, self.y.scale, self.y.zero_point, torch.uint8, "relu", [], ""),
        )
        return y

    def add(self, x: torch.Tensor, residual: torch.Tensor, encoding: Encoding) -> torch.Tensor:
        """Return the codes of convolution + residual; these overwrite the residual's."""
        y: torch.Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            *(x, self.x.scale, self.x.zero_point, self.weight, self.scales, self.zeros, residual),
            *(self.bias, *self.geometry, self.y.scale, self.y.zero_point, torch.uint8),
            *(encoding.scale, encoding.zero_point, "sum", 1.0, None, [], ""),
        )
        return y


class Int8Blocks:
    """A chain of x + conv(ReLU(conv(x))), static encodings calibrated on one float input."""

    def __init__(self, blocks: Iterable[tuple[nn.Conv2d, nn.Conv2d]], x: torch.Tensor) -> None:
        self.first = here = Encoding.of(x)
        self.blocks = []
        for conv1, conv2 in blocks:
            hidden = F.relu(conv1(x))
            y = x + conv2(hidden)
            inner, after = Encoding.of(hidden), Encoding.of(y)
            pair = (
                Int8Conv(conv1, here, inner, x.shape),
                Int8Conv(conv2, inner, after, hidden.shape),
            )
            self.blocks.append((*pair, here))
            x, here = y, after
        self.last = here

    def __call__(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the last block's codes, encoded as `last`; the input's are overwritten."""
        for conv1, conv2, encoding in self.blocks:
            codes = conv2.add(conv1.relu(codes), codes, encoding)
        return codes


class Int8EDSR(nn.Module):
    """An EDSR whose residual blocks run in int8 by PyTorch, the rest in float32."""

    def __init__(self, network: SRNetwork, x: torch.Tensor) -> None:
        super().__init__()
        if not isinstance(network, EDSR):
            raise Unavailable("written for EDSR alone")
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        *blocks, self.end = network.body.children()
        pairs = [_convolutions(block) for block in blocks]
        with torch.inference_mode():
            self.blocks = Int8Blocks(pairs, self.head(x))

    def head(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.network.head(self.network.sub_mean(x * RGB_RANGE))
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        start = self.head(x)
        codes = self.blocks(self.blocks.first.encode(start))
        features = start + self.end(self.blocks.last.decode(codes))
        y: torch.Tensor = self.network.reconstruct(x, features)
        return y


def _convolutions(block: nn.Module) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return the two convolutions of a residual block that is nothing more than those."""
    if not isinstance(block, ResBlock) or len(block.body) != 3 or block.res_scale != 1:
        raise Unavailable("written for EDSR without batch_norm and res_scale alone")
    first, _, second = block.body.children()
    assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
    return first, second
