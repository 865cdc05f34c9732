"""EDSR (Lim et al., CVPR Workshops 2017), with the authors' state-dict names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ptqsr.models.base import SRNetwork, conv

# Mean colour of DIV2K's training pictures, which the authors subtract.
RGB_MEAN = (0.4488, 0.4371, 0.4040)
# The authors' networks work on grey levels, not on [0, 1].
RGB_RANGE = 255.0


class MeanShift(nn.Module):
    """Adds or subtracts the mean colour: y = weight x + bias, never trained.

    A 1x1 convolution in the authors' files, but one that keeps the colours apart. As plain
    arithmetic it stays in float32 where convolutions run in bfloat16, whose 8 bits are too few for
    grey levels.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(3).view(3, 3, 1, 1))
        self.register_buffer("bias", sign * RGB_RANGE * torch.tensor(RGB_MEAN))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gain = self.weight[:, :, 0, 0].diagonal()
        return x * gain.view(3, 1, 1) + self.bias.view(3, 1, 1)


class ResBlock(nn.Module):
    def __init__(self, width: int, res_scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width, 3), nn.ReLU(), conv(width, width, 3))
        self.res_scale = res_scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.body(x)
        return x + (branch if self.res_scale == 1 else branch * self.res_scale)


class Upsampler(nn.Sequential):
    def __init__(self, width: int, scale: int) -> None:
        steps = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        layers: list[nn.Module] = []
        for step in steps:
            layers += [conv(width, width * step * step, 3), nn.PixelShuffle(step)]
        super().__init__(*layers)


class EDSR(SRNetwork):
    """The baseline is 16 blocks x 64 channels; the full network 32 x 256 with res_scale 0.1."""

    architecture = "edsr"
    quantized_layers = ("body.*.body.*",)
    constants = ("sub_mean.*", "add_mean.*")

    def __init__(
        self, *, scale: int = 4, blocks: int = 16, width: int = 64, res_scale: float | None = None
    ) -> None:
        # The shapes do not tell res_scale: the authors use 0.1 with 256 channels and 1 with 64.
        res_scale = (0.1 if width >= 256 else 1.0) if res_scale is None else res_scale
        super().__init__(scale=scale, blocks=blocks, width=width, res_scale=res_scale)
        self.sub_mean = MeanShift(-1)
        self.add_mean = MeanShift(1)
        self.head = nn.Sequential(conv(3, width, 3))
        self.body = nn.Sequential(
            *(ResBlock(width, res_scale) for _ in range(blocks)), conv(width, width, 3)
        )
        self.tail = nn.Sequential(Upsampler(width, scale), conv(width, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(self.sub_mean(x * RGB_RANGE))
        x = x + self.body(x)
        return self.add_mean(self.tail(x)) / RGB_RANGE

    def problem_with(self, state: Mapping[str, torch.Tensor]) -> str | None:
        for name in ("sub_mean.weight", "add_mean.weight"):
            matrix = state[name].flatten(1) if name in state else torch.eye(3)
            if not torch.equal(matrix, torch.diag(matrix.diagonal())):
                return f"{name} mixes the colours"
        if "add_mean.bias" in state and state["add_mean.bias"].abs().max() < 2:
            return "add_mean.bias says that it works on [0, 1]; EDSR works on grey levels"
        return None


def hyperparameters(shapes: Mapping[str, torch.Size]) -> dict[str, Any] | None:
    """Deduce scale, blocks and width from the tensor shapes; None where it is no EDSR."""
    if "head.0.weight" not in shapes or "tail.0.0.weight" not in shapes:
        return None
    width = shapes["head.0.weight"][0]
    blocks = len({name.split(".")[1] for name in shapes if name.startswith("body.")}) - 1
    if "tail.0.2.weight" in shapes:
        scale = 4
    else:
        scale = 3 if shapes["tail.0.0.weight"][0] == 9 * width else 2
    return {"scale": scale, "blocks": blocks, "width": width}
