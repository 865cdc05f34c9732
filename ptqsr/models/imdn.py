"""IMDN (Hui et al., ACM MM 2019), with the authors' state-dict names."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.models.base import SRNetwork
from ptqsr.models.layers import conv, leaky


class ContrastAttention(nn.Module):
    """Scales every channel by a gate computed from its mean plus its standard deviation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            conv(width, width // 16, 1), nn.ReLU(), conv(width // 16, width, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((2, 3), keepdim=True)
        deviation = (x - mean).pow(2).mean((2, 3), keepdim=True).sqrt()
        return x * self.conv_du(mean + deviation)


class DistillationBlock(nn.Module):
    """Three times: convolve, keep a quarter of the channels, go on with the rest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        kept, rest = width // 4, width - width // 4
        self.parts = [kept, rest]
        self.c1 = conv(width, width, 3)
        self.c2 = conv(rest, width, 3)
        self.c3 = conv(rest, width, 3)
        self.c4 = conv(rest, kept, 3)
        self.c5 = conv(4 * kept, width, 1)
        self.cca = ContrastAttention(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept1, rest = torch.split(leaky(self.c1(x)), self.parts, dim=1)
        kept2, rest = torch.split(leaky(self.c2(rest)), self.parts, dim=1)
        kept3, rest = torch.split(leaky(self.c3(rest)), self.parts, dim=1)
        joined = torch.cat((kept1, kept2, kept3, self.c4(rest)), dim=1)
        return self.c5(self.cca(joined)) + x


class IMDN(SRNetwork):
    architecture = "imdn"
    quantized_layers = ("IMDB*.c[1-5]",)
    block_patterns = ("IMDB*",)
    gates = ("IMDB*.cca.*",)

    def __init__(self, *, scale: int = 4, blocks: int = 6, width: int = 64) -> None:
        if width < 16 or width % 16:
            raise PtqsrError(f"imdn: width is {width}; it must be a multiple of 16")
        super().__init__(scale=scale, blocks=blocks, width=width)
        self.fea_conv = conv(3, width, 3)
        self.blocks = [f"IMDB{i + 1}" for i in range(blocks)]
        for name in self.blocks:
            self.add_module(name, DistillationBlock(width))
        self.c = nn.Sequential(conv(width * blocks, width, 1), nn.LeakyReLU(0.05))
        self.LR_conv = conv(width, width, 3)
        self.upsampler = nn.Sequential(conv(width, 3 * scale * scale, 3), nn.PixelShuffle(scale))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [self.fea_conv(x)]
        for name in self.blocks:
            outputs.append(self.get_submodule(name)(outputs[-1]))
        return self.LR_conv(self.c(torch.cat(outputs[1:], dim=1))) + outputs[0]

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self.upsampler(features)


def hyperparameters(
    shapes: Mapping[str, torch.Size], scale: int | None = None
) -> dict[str, Any] | None:
    """Deduce scale, blocks and width from the tensor shapes; None where it is no IMDN."""
    if "fea_conv.weight" not in shapes or "upsampler.0.weight" not in shapes:
        return None
    blocks = len({name.split(".")[0] for name in shapes if name.startswith("IMDB")})
    scale = isqrt(shapes["upsampler.0.weight"][0] // 3)
    return {"scale": scale, "blocks": blocks, "width": shapes["fea_conv.weight"][0]}
