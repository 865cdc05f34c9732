"""A user's own module in the zoo's clothes."""

from __future__ import annotations

import torch
from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.models.base import Colours, SRNetwork


class WrappedNetwork(SRNetwork):
    """Feeds a module its own value range; every convolution but the first and last is quantized."""

    architecture = "wrapped"

    def __init__(
        self, *, module: nn.Module, scale: int, value_range: float, colours: Colours
    ) -> None:
        if scale < 1 or not value_range > 0 or colours not in ("rgb", "y"):
            raise PtqsrError(
                f"wrap: scale {scale}, value_range {value_range}, colours {colours!r}; "
                'give a scale of at least 1, a positive range, and "rgb" or "y"'
            )
        super().__init__(scale=scale, colours=colours, value_range=value_range)
        self.module = module
        self.value_range = value_range
        names = [name for name, m in module.named_modules() if isinstance(m, nn.Conv2d)]
        self.quantized_layers = tuple(f"module.{name}" for name in names[1:-1])

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return x: where a user's network begins to enlarge is not known."""
        return x

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        if self.value_range == 1:
            return self.module(x)
        return self.module(x * self.value_range) / self.value_range
