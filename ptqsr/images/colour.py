"""Luma as the SR field computes it."""

from __future__ import annotations

import torch

# ITU-R BT.601, studio swing: grey levels of Y per grey level of R, G, B. MATLAB's rgb2ycbcr.
LUMA_WEIGHTS = (65.738 / 256, 129.057 / 256, 25.064 / 256)
LUMA_OFFSET = 16.0


def luma(rgb: torch.Tensor) -> torch.Tensor:
    """Return Y in grey levels, [..., 1, H, W] in 16..235, of RGB in grey levels [..., 3, H, W].

    The dtype stays; nothing is rounded.
    """
    weights = rgb.new_tensor(LUMA_WEIGHTS).view(3, 1, 1)
    return (rgb * weights).sum(dim=-3, keepdim=True) + LUMA_OFFSET


def with_luma(rgb: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return rgb, grey levels [..., 3, H, W], with its luma replaced by y [..., 1, H, W].

    Cb and Cr stay what they are: they are differences of the colours, to which the same is added.
    """
    return rgb + (y - luma(rgb)) / sum(LUMA_WEIGHTS)


def unit_luma(rgb: torch.Tensor) -> torch.Tensor:
    """Return Y / 255, what networks on luma take, of RGB in [0, 1], [..., 3, H, W]."""
    return luma(rgb * 255) / 255
