"""Pictures of sizes that a network takes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Fit(nn.Module):
    """Pads pictures, [N, C, H, W], to sides of at least `minimum` that are multiples of `multiple`.

    At the right and at the bottom: mirrored as far as there is a picture to mirror, then repeated.
    """

    def __init__(self, minimum: int, multiple: int) -> None:
        super().__init__()
        self.minimum, self.multiple = minimum, multiple

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        down, right = self._missing(height), self._missing(width)
        mirrored = min(down, height - 1), min(right, width - 1)
        if max(mirrored) > 0:
            x = F.pad(x, (0, mirrored[1], 0, mirrored[0]), "reflect")
        rest = down - mirrored[0], right - mirrored[1]
        return F.pad(x, (0, rest[1], 0, rest[0]), "replicate") if max(rest) > 0 else x

    def cut(self, y: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Return of what was made of a padded picture as much as the picture makes."""
        return y[..., :height, :width]

    def _missing(self, side: int) -> int:
        wanted = max(side, self.minimum)
        return wanted + -wanted % self.multiple - side
