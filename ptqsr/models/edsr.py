"""EDSR (Lim et al., CVPR Workshops 2017), with the authors' state-dict names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ptqsr.models.base import SRNetwork
from ptqsr.models.layers import (
    MeanShift,
    conv,
    mean_shift_problem,
    upsampling_scale,
    upsampling_steps,
)

# The authors' networks work on grey levels, not on [0, 1].
RGB_RANGE = 255.0


class ResBlock(nn.Module):
    def __init__(self, width: int, res_scale: float, batch_norm: bool) -> None:
        super().__init__()
        norm = [nn.BatchNorm2d] if batch_norm else []
        self.body = nn.Sequential(
            conv(width, width, 3),
            *(make(width) for make in norm),
            nn.ReLU(),
            conv(width, width, 3),
            *(make(width) for make in norm),
        )
        self.res_scale = res_scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.body(x)
        return x + (branch if self.res_scale == 1 else branch * self.res_scale)


class Upsampler(nn.Sequential):
    def __init__(self, width: int, scale: int) -> None:
        layers: list[nn.Module] = []
        for step in upsampling_steps(scale):
            layers += [conv(width, width * step * step, 3), nn.PixelShuffle(step)]
        super().__init__(*layers)


class EDSR(SRNetwork):
    """The baseline is 16 blocks x 64 channels; the full network 32 x 256 with res_scale 0.1.

    `batch_norm` puts batch normalisation after every convolution of a block, as SRResNet has it
    (PAMS, Table 4).
    """

    architecture = "edsr"
    quantized_layers = ("body.*.body.*",)
    block_patterns = ("body.*",)
    constants = ("sub_mean.*", "add_mean.*")

    def __init__(
        self,
        *,
        scale: int = 4,
        blocks: int = 16,
        width: int = 64,
        res_scale: float | None = None,
        batch_norm: bool = False,
    ) -> None:
        # The shapes do not tell res_scale: the authors use 0.1 with 256 channels and 1 with 64.
        res_scale = (0.1 if width >= 256 else 1.0) if res_scale is None else res_scale
        super().__init__(
            scale=scale, blocks=blocks, width=width, res_scale=res_scale, batch_norm=batch_norm
        )
        self.sub_mean = MeanShift(-1, RGB_RANGE)
        self.add_mean = MeanShift(1, RGB_RANGE)
        self.head = nn.Sequential(conv(3, width, 3))
        self.body = nn.Sequential(
            *(ResBlock(width, res_scale, batch_norm) for _ in range(blocks)),
            conv(width, width, 3),
        )
        self.tail = nn.Sequential(Upsampler(width, scale), conv(width, 3, 3))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(self.sub_mean(x * RGB_RANGE))
        return x + self.body(x)

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self.add_mean(self.tail(features)) / RGB_RANGE

    def residual_blocks(self) -> dict[str, str]:
        return {
            f"body.{i}": f"body.{i}.body.{len(block.body) - 1}"
            for i, block in enumerate(self.body)
            if isinstance(block, ResBlock)
        }

    def problem_with(self, state: Mapping[str, torch.Tensor]) -> str | None:
        return mean_shift_problem(state, ("sub_mean", "add_mean"), RGB_RANGE)


def hyperparameters(
    shapes: Mapping[str, torch.Size], scale: int | None = None
) -> dict[str, Any] | None:
    """Deduce scale, blocks and width from the tensor shapes; None where it is no EDSR."""
    if "head.0.weight" not in shapes or "tail.0.0.weight" not in shapes:
        return None
    if "body.0.body.0.body.0.weight" in shapes:
        return None  # RCAN: the same names at both ends, groups of blocks between them
    width = shapes["head.0.weight"][0]
    blocks = len({name.split(".")[1] for name in shapes if name.startswith("body.")}) - 1
    found = {"blocks": blocks, "width": width}
    if "body.0.body.1.running_mean" in shapes:
        found["batch_norm"] = True
    first, twice = shapes["tail.0.0.weight"], "tail.0.2.weight" in shapes
    return {"scale": upsampling_scale(first, width, twice), **found}
