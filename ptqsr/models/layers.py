"""Layers that several networks of the zoo are made of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

# Mean colour of DIV2K's training pictures, which EDSR and CARN subtract.
RGB_MEAN = (0.4488, 0.4371, 0.4040)


def conv(
    in_channels: int, out_channels: int, kernel_size: int, groups: int = 1, bias: bool = True
) -> nn.Conv2d:
    """A convolution that keeps the picture's size."""
    padding = kernel_size // 2
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, padding=padding, groups=groups, bias=bias
    )


def leaky(x: torch.Tensor) -> torch.Tensor:
    """The activation of IDN and IMDN."""
    return F.leaky_relu(x, 0.05)


def upsampling_steps(scale: int) -> list[int]:
    """Return the factors of the pixel shuffles that the field's networks enlarge by in turn."""
    return {2: [2], 3: [3], 4: [2, 2]}[scale]


def upsampling_scale(first: torch.Size, width: int, twice: bool) -> int:
    """Return the scale that the shape of the first such convolution, of `width`, stands for."""
    return 4 if twice else 3 if first[0] == 9 * width else 2


class MeanShift(nn.Module):
    """Adds or subtracts the mean colour: y = weight x + bias, never trained.

    A 1x1 convolution in the authors' files, but one that keeps the colours apart. As plain
    arithmetic it stays in float32 where convolutions run in bfloat16, whose 8 bits are too few for
    grey levels.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, sign: int, value_range: float) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(3).view(3, 3, 1, 1))
        self.register_buffer("bias", sign * value_range * torch.tensor(RGB_MEAN))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gain = self.weight[:, :, 0, 0].diagonal()
        return x * gain.view(3, 1, 1) + self.bias.view(3, 1, 1)


def mean_shift_problem(
    state: Mapping[str, torch.Tensor], names: tuple[str, str], value_range: float
) -> str | None:
    """Return why the mean colours in a state are not those of a network in [0, value_range]."""
    for name in names:
        weight, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
        if weight is not None and not torch.equal(
            weight.flatten(1), torch.diag(weight.flatten(1).diagonal())
        ):
            return f"{name}.weight mixes the colours"
        if bias is not None and (bias.abs().max() < 2) != (value_range == 1):
            kinds = ("on [0, 1]", "on grey levels")
            theirs, ours = kinds if value_range > 1 else kinds[::-1]
            return f"{name}.bias says that it works {theirs}; this network works {ours}"
    return None


class BicubicUpsample(nn.Module):
    """Enlarges [N, C, H, W] by bicubic interpolation (a = -0.5), the border pixel repeated.

    As MATLAB's imresize on floating-point pictures; torch's own bicubic has a = -0.75 or other
    borders. The taps are a constant and not saved.
    """

    taps: torch.Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        position = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
        distance = (position[:, None] - torch.arange(-2, 3)).abs()
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weight = torch.where(distance <= 1, near, torch.where(distance <= 2, far, 0.0))
        taps = torch.einsum("ai,bj->abij", weight, weight).reshape(scale * scale, 1, 5, 5)
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        # float64 stays what it is under autocast; bfloat16 or TF32 would be too coarse.
        padded = F.pad(x.double(), (2, 2, 2, 2), mode="replicate")
        phases = F.conv2d(padded.reshape(n * c, 1, h + 4, w + 4), self.taps.double())
        out = F.pixel_shuffle(phases, self.scale).to(x.dtype)
        return out.view(n, c, h * self.scale, w * self.scale)
