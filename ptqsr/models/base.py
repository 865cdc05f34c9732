"""What every SR network of ptqsr offers to the rest."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import nn

from ptqsr.errors import PtqsrError

Colours = Literal["rgb", "y"]


class SRNetwork(nn.Module):
    """A super-resolution network: float32 [N, C, H, W] in [0, 1] -> [N, C, scale H, scale W].

    C is 3 (RGB), or 1 (luma) where `colours` is "y". Constructors take keywords only and are kept
    in `hyperparameters`, so that `type(net)(**net.hyperparameters)` builds the network again.
    """

    architecture: ClassVar[str]
    # Name patterns (fnmatch) of the convolutions that the papers quantize.
    quantized_layers: tuple[str, ...]
    # The options of the calibration that quantized it; None for a float network.
    calibration: Any = None

    def __init__(self, *, scale: int, colours: Colours = "rgb", **hyperparameters: Any) -> None:
        super().__init__()
        self.scale = scale
        self.colours: Colours = colours
        self.hyperparameters: dict[str, Any] = {"scale": scale, **hyperparameters}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def check_network(model: object) -> None:
    """Raise PtqsrError for a module that is not in the zoo's clothes."""
    if not isinstance(model, SRNetwork):
        raise PtqsrError(
            f"{type(model).__name__} is no network of ptqsr; wrap it: "
            "ptqsr.models.wrap(module, scale=...)"
        )


def conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """A convolution that keeps the picture's size."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
