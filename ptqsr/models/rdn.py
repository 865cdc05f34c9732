"""RDN (Zhang et al., CVPR 2018), with the state-dict names of its author's PyTorch code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ptqsr.models.base import SRNetwork
from ptqsr.models.layers import conv, upsampling_scale, upsampling_steps

# Names of the widely used weights of github.com/yjn870/RDN-pytorch, which work on [0, 1].
OTHER_NAMES = (
    (r"^sfe(\d)\.", r"SFENet\1."),
    (r"^rdbs\.(\d+)\.layers\.(\d+)\.conv\.", r"RDBs.\1.convs.\2.conv.0."),
    (r"^rdbs\.(\d+)\.lff\.", r"RDBs.\1.LFF."),
    (r"^gff\.", "GFF."),
    (r"^upscale\.", "UPNet."),
)


class DenseLayer(nn.Module):
    """Appends `growth` channels to what it reads."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv(width, growth, 3), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((x, self.conv(x)), dim=1)


class DenseBlock(nn.Module):
    def __init__(self, width: int, growth: int, layers: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(DenseLayer(width + i * growth, growth) for i in range(layers)))
        self.LFF = conv(width + layers * growth, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.LFF(self.convs(x)) + x


class RDN(SRNetwork):
    """The papers quantize configuration B: 16 blocks of 8 layers, growth 64."""

    architecture = "rdn"
    quantized_layers = ("RDBs.*.convs.*.conv.0", "RDBs.*.LFF", "GFF.[01]")
    block_patterns = ("RDBs.*",)

    def __init__(
        self,
        *,
        scale: int = 4,
        blocks: int = 16,
        layers: int = 8,
        growth: int = 64,
        width: int = 64,
        value_range: float = 255.0,
    ) -> None:
        super().__init__(
            scale=scale,
            blocks=blocks,
            layers=layers,
            growth=growth,
            width=width,
            value_range=value_range,
        )
        self.value_range = value_range
        self.SFENet1 = conv(3, width, 3)
        self.SFENet2 = conv(width, width, 3)
        self.RDBs = nn.ModuleList(DenseBlock(width, growth, layers) for _ in range(blocks))
        self.GFF = nn.Sequential(conv(blocks * width, width, 1), conv(width, width, 3))
        steps: list[nn.Module] = []
        for step in upsampling_steps(scale):
            steps += [conv(growth if steps else width, growth * step**2, 3), nn.PixelShuffle(step)]
        self.UPNet = nn.Sequential(*steps, conv(growth, 3, 3))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        shallow = self.SFENet1(x * self.value_range)
        blocks = [self.SFENet2(shallow)]
        for block in self.RDBs:
            blocks.append(block(blocks[-1]))
        return self.GFF(torch.cat(blocks[1:], dim=1)) + shallow

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self.UPNet(features) / self.value_range

    def residual_blocks(self) -> dict[str, str]:
        return {f"RDBs.{i}": f"RDBs.{i}.LFF" for i in range(len(self.RDBs))}

    def adapt(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {_our_name(name, len(self.UPNet) - 1): tensor for name, tensor in state.items()}


def _our_name(name: str, last: int) -> str:
    for pattern, ours in OTHER_NAMES:
        name = re.sub(pattern, ours, name)
    return re.sub(r"^output\.", f"UPNet.{last}.", name)


def hyperparameters(
    shapes: Mapping[str, torch.Size], scale: int | None = None
) -> dict[str, Any] | None:
    """Deduce scale, blocks, layers, growth and width; None where it is no RDN."""
    value_range = 1.0 if "sfe1.weight" in shapes else 255.0
    ours = {_our_name(name, -1): shape for name, shape in shapes.items()}
    first, upsampler = ours.get("SFENet1.weight"), ours.get("UPNet.0.weight")
    dense = ours.get("RDBs.0.convs.0.conv.0.weight")
    if first is None or upsampler is None or dense is None:
        return None
    growth = dense[0]
    blocks = {name.split(".")[1] for name in ours if name.startswith("RDBs.")}
    layers = {name.split(".")[3] for name in ours if name.startswith("RDBs.0.convs.")}
    twice = len(ours.get("UPNet.2.weight", ())) > 0 and ours["UPNet.2.weight"][0] == 4 * growth
    return {
        "scale": upsampling_scale(upsampler, growth, twice),
        "blocks": len(blocks),
        "layers": len(layers),
        "growth": growth,
        "width": first[0],
        "value_range": value_range,
    }
