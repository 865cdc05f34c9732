"""IDN (Hui et al., CVPR 2018), with the authors' state-dict names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.models.base import Colours, SRNetwork
from ptqsr.models.layers import BicubicUpsample, conv, leaky

BLOCKS = 4
KERNEL = 17  # of the transposed convolution that makes the picture


class IDN(SRNetwork):
    """`colours` "y" is the authors' network, on luma; "rgb" the form that the papers quantize.

    Four information distillation blocks; convolutions 2 and 5 of each have four groups.
    """

    architecture = "idn"
    quantized_layers = ("conv[3-6]_[1-6]",)

    def __init__(self, *, scale: int = 4, colours: Colours = "rgb", width: int = 64) -> None:
        if width < 16 or width % 16:
            raise PtqsrError(f"idn: width is {width}; it must be a multiple of 16")
        super().__init__(scale=scale, colours=colours, width=width)
        self.hyperparameters["colours"] = colours
        planes = 1 if colours == "y" else 3
        kept, rest, half = width // 4, width - width // 4, width // 2
        self.kept = kept
        self.conv1 = conv(planes, width, 3)
        self.conv2 = conv(width, width, 3)
        for block in range(BLOCKS):
            layers = (
                conv(width, rest, 3),
                conv(rest, half, 3, groups=4),
                conv(half, width, 3),
                conv(rest, width, 3),
                conv(width, rest, 3, groups=4),
                conv(rest, width + kept, 3),
            )
            for number, layer in enumerate(layers, 1):
                self.add_module(f"conv{block + 3}_{number}", layer)
            self.add_module(f"down{block + 1}", conv(width + kept, width, 1))
        self.upsample = nn.ConvTranspose2d(
            width, planes, KERNEL, stride=scale, padding=KERNEL // 2 - (scale - 1)
        )
        self.bicubic = BicubicUpsample(scale)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = leaky(self.conv2(leaky(self.conv1(x))))
        for block in range(BLOCKS):
            convs = [self.get_submodule(f"conv{block + 3}_{i}") for i in range(1, 7)]
            y = x
            for layer in convs[:3]:
                y = leaky(layer(y))
            joined = torch.cat((x, y[:, : self.kept]), dim=1)
            y = y[:, self.kept :]
            for layer in convs[3:]:
                y = leaky(layer(y))
            x = leaky(self.get_submodule(f"down{block + 1}")(joined + y))
        return x

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2] * self.scale, x.shape[3] * self.scale
        return self.bicubic(x) + self.upsample(features)[..., :height, :width]


def hyperparameters(
    shapes: Mapping[str, torch.Size], scale: int | None = None
) -> dict[str, Any] | None:
    """Deduce width and colours; None where it is no IDN.

    The tensors have the same shapes at every scale, so that it is the one asked for, or None.
    """
    if not {"conv1.weight", "conv3_1.weight", "upsample.weight"} <= shapes.keys():
        return None
    width, planes = shapes["conv1.weight"][:2]
    return {"scale": scale, "colours": "y" if planes == 1 else "rgb", "width": width}
