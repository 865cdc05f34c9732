"""SRResNet (Ledig et al., CVPR 2017): the network with batch normalisation and PReLU.

Its authors published no weights; the layout is the one that gives the papers' storage size and
BitOPs (no biases, a single slope for each PReLU), the names those of the common PyTorch code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from ptqsr.models.base import SRNetwork
from ptqsr.models.layers import conv, upsampling_scale, upsampling_steps

_conv = partial(conv, bias=False)


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv(width, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.PReLU()
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))


class SRResNet(SRNetwork):
    architecture = "srresnet"
    quantized_layers = ("residual.*.conv[12]",)
    block_patterns = ("residual.*",)

    def __init__(self, *, scale: int = 4, blocks: int = 16, width: int = 64) -> None:
        super().__init__(scale=scale, blocks=blocks, width=width)
        self.conv_input = _conv(3, width, 9)
        self.relu = nn.PReLU()
        self.residual = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.conv_mid = _conv(width, width, 3)
        self.bn_mid = nn.BatchNorm2d(width)
        steps: list[nn.Module] = []
        for step in upsampling_steps(scale):
            steps += [_conv(width, width * step**2, 3), nn.PixelShuffle(step), nn.PReLU()]
        self.upscale = nn.Sequential(*steps)
        self.conv_output = _conv(width, 3, 9)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        head = self.relu(self.conv_input(x))
        return head + self.bn_mid(self.conv_mid(self.residual(head)))

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self.conv_output(self.upscale(features))

    def residual_blocks(self) -> dict[str, str]:
        return {f"residual.{i}": f"residual.{i}.bn2" for i in range(len(self.residual))}

    def adapt(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {_our_name(name): tensor for name, tensor in state.items()}


def _our_name(name: str) -> str:
    return re.sub(r"^upscale\dx\.", "upscale.", name)


def hyperparameters(
    shapes: Mapping[str, torch.Size], scale: int | None = None
) -> dict[str, Any] | None:
    """Deduce scale, blocks and width from the tensor shapes; None where it is no SRResNet."""
    ours = {_our_name(name): shape for name, shape in shapes.items()}
    if "conv_input.weight" not in ours or "upscale.0.weight" not in ours:
        return None
    width = ours["conv_input.weight"][0]
    blocks = len({name.split(".")[1] for name in ours if name.startswith("residual.")})
    found = upsampling_scale(ours["upscale.0.weight"], width, "upscale.3.weight" in ours)
    return {"scale": found, "blocks": blocks, "width": width}
