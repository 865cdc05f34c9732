"""CARN and CARN-M (Ahn et al., ECCV 2018), with the authors' state-dict names.

The authors' files hold one network with an upsampler for each of x2, x3 and x4; ours has one scale
and keeps that upsampler only.
"""

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

MULTI_SCALE = ("upsample.up2.", "upsample.up3.", "upsample.up4.")
SINGLE_SCALE = "upsample.up."


class ConvReLU(nn.Module):
    """A 1x1 convolution that fuses a concatenation."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(in_channels, out_channels, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; CARN-M's are grouped and followed by a 1x1."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        layers = [conv(width, width, 3, groups), nn.ReLU(), conv(width, width, 3, groups)]
        if groups > 1:
            layers += [nn.ReLU(), conv(width, width, 1)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + x)


class Cascade(nn.Module):
    """Three blocks; each fusion reads all that came before. `recursive`: one block, run thrice."""

    def __init__(self, blocks: list[nn.Module], width: int) -> None:
        super().__init__()
        self.blocks = [f"b{i + 1}" for i in range(len(blocks))]
        for name, block in zip(self.blocks, blocks, strict=True):
            self.add_module(name, block)
        self.c1, self.c2, self.c3 = (ConvReLU(i * width, width) for i in (2, 3, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined = out = x
        for i, fuse in enumerate((self.c1, self.c2, self.c3)):
            block = self.get_submodule(self.blocks[i % len(self.blocks)])
            joined = torch.cat((joined, block(out)), dim=1)
            out = fuse(joined)
        return out


class Upsampler(nn.Module):
    def __init__(self, width: int, scale: int, groups: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for step in upsampling_steps(scale):
            wide = conv(width, width * step**2, 3, groups)
            layers += [wide, nn.ReLU(), nn.PixelShuffle(step)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class CARN(SRNetwork):
    architecture = "carn"
    quantized_layers = ("b[123].b[123].body.[02]",)
    block_patterns = ("b[123].b[123]",)
    # The papers count the 3x3 convolutions; these are the 1x1, which may be quantized too.
    outside_fqr = ("*c[123].body.0", "b[123].b[123].body.4")
    constants = ("sub_mean.*", "add_mean.*")
    # Of CARN-M, below.
    default_groups = 1
    blocks_per_cascade = 3

    def __init__(self, *, scale: int = 4, width: int = 64, groups: int | None = None) -> None:
        groups = self.default_groups if groups is None else groups
        super().__init__(scale=scale, width=width, groups=groups)
        self.sub_mean = nn.Sequential()
        self.sub_mean.add_module("shifter", MeanShift(-1, 1.0))
        self.add_mean = nn.Sequential()
        self.add_mean.add_module("shifter", MeanShift(1, 1.0))
        self.entry = conv(3, width, 3)

        def cascade() -> Cascade:
            blocks = range(self.blocks_per_cascade)
            return Cascade([ResidualBlock(width, groups) for _ in blocks], width)

        self.b1, self.b2, self.b3 = cascade(), cascade(), cascade()
        self.c1, self.c2, self.c3 = (ConvReLU(i * width, width) for i in (2, 3, 4))
        self.upsample = nn.ModuleDict({f"up{scale}": Upsampler(width, scale, groups)})
        self.exit = conv(width, 3, 3)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        joined = out = self.entry(self.sub_mean(x))
        for block, fuse in ((self.b1, self.c1), (self.b2, self.c2), (self.b3, self.c3)):
            joined = torch.cat((joined, block(out)), dim=1)
            out = fuse(joined)
        return out

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self.add_mean(self.exit(self.upsample[f"up{self.scale}"](features)))

    def adapt(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        ours = f"upsample.up{self.scale}."
        others = tuple(prefix for prefix in MULTI_SCALE if prefix != ours)
        return {
            ours + name.removeprefix(SINGLE_SCALE) if name.startswith(SINGLE_SCALE) else name: t
            for name, t in state.items()
            if not name.startswith(others)
        }

    def residual_blocks(self) -> dict[str, str]:
        return {
            name: f"{name}.body.{len(module.body) - 1}"
            for name, module in self.named_modules()
            if isinstance(module, ResidualBlock)
        }

    def problem_with(self, state: Mapping[str, torch.Tensor]) -> str | None:
        return mean_shift_problem(state, ("sub_mean.shifter", "add_mean.shifter"), 1.0)


class CARNM(CARN):
    """CARN-M: grouped convolutions, and in every cascade one block that runs three times."""

    architecture = "carn_m"
    default_groups = 4
    blocks_per_cascade = 1


def _hyperparameters(
    shapes: Mapping[str, torch.Size], scale: int | None, mobile: bool
) -> dict[str, Any] | None:
    body = shapes.get("b1.b1.body.0.weight")
    if (
        body is None
        or "entry.weight" not in shapes
        or mobile != ("b1.b2.body.0.weight" not in shapes)
    ):
        return None
    width = shapes["entry.weight"][0]
    found: dict[str, Any] = {"width": width, "groups": width // body[1]}
    if f"{SINGLE_SCALE}body.0.weight" in shapes:
        first, twice = (
            shapes[f"{SINGLE_SCALE}body.0.weight"],
            f"{SINGLE_SCALE}body.3.weight" in shapes,
        )
        return {"scale": upsampling_scale(first, width, twice), **found}
    there = [s for s in (4, 2, 3) if f"upsample.up{s}.body.0.weight" in shapes]
    if not there:
        return None
    return {"scale": scale if scale in there else there[0], **found}


def hyperparameters(
    shapes: Mapping[str, torch.Size], scale: int | None = None
) -> dict[str, Any] | None:
    """Deduce width and groups, and the scale where the file has one; None where it is no CARN."""
    return _hyperparameters(shapes, scale, mobile=False)


def mobile_hyperparameters(
    shapes: Mapping[str, torch.Size], scale: int | None = None
) -> dict[str, Any] | None:
    """The same of CARN-M."""
    return _hyperparameters(shapes, scale, mobile=True)
