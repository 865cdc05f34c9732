"""How the values of samples and channels spread."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.checks import NCHW, NUMBERS, expect
from ptqsr.ops.schema.library import library

library.define("channel_moments(Tensor x) -> (Tensor mean, Tensor deviation)")


@torch.library.register_fake("ptqsr::channel_moments", lib=library)
def _channel_moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    check_moments(x)
    return empty_moments(x)


def check_moments(x: torch.Tensor) -> None:
    """Raise ValueError or TypeError for what is no activation."""
    expect("channel_moments", "x", x, NUMBERS, NCHW)


def empty_moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places for mean and deviation of x [N, C, H, W]."""
    mean, deviation = (x.new_empty(x.shape[:2], dtype=torch.float32) for _ in range(2))
    return mean, deviation
