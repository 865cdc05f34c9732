"""Test cards: the legal pictures that reach farthest."""

from __future__ import annotations

from itertools import product

import torch

BLOCK = 8


def cards(x: torch.Tensor) -> list[torch.Tensor]:
    """Return pictures like x, float32 [N, C, H, W], as [1, C, H, W].

    Each corner of the colour cube as a flat picture (black, white, the primaries, their
    complements; of luma: black and white), and all of them in blocks of 8x8 side by side. The flat
    ones span what [0, 1] becomes on its way to the first convolution, the steps between blocks
    what sharp edges become after it.
    """
    _, channels, height, width = x.shape
    corners = torch.tensor(list(product((0.0, 1.0), repeat=channels)), device=x.device)
    rows = torch.arange(height, device=x.device)[:, None] // BLOCK
    columns = torch.arange(width, device=x.device) // BLOCK
    blocks = corners[(columns + 3 * rows) % len(corners)].permute(2, 0, 1)
    flat = (corner.view(-1, 1, 1).expand(channels, height, width) for corner in corners)
    return [picture.contiguous()[None] for picture in (*flat, blocks)]
