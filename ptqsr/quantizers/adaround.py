"""Rounding of weights by gradients: AdaRound (Nagel et al., ICML 2020), or straight through."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

# The sigmoid reaches a little beyond [0, 1], so that 0 and 1 are reached (Eq. 23: zeta, gamma).
STRETCH, SHIFT = 1.2, -0.1


class Rounding(nn.Module):
    """Levels, float32 [O, I/groups, K, K], that are learned."""

    kind: ClassVar[str]
    v: nn.Parameter

    def soft(self) -> torch.Tensor:
        """Return what stands for the levels while they are learned, with gradients."""
        raise NotImplementedError

    def levels(self) -> torch.Tensor:
        """Return the levels themselves: whole numbers."""
        raise NotImplementedError

    def confine(self) -> None:
        """Bring back what went where gradients no longer move levels; after every step."""


class SoftRounding(Rounding):
    """Weights in steps, each between two levels: floor + h(V), h(V) in [0, 1] learned.

    latent: float32 [O, I/groups, K, K], in units of the step, from which V starts; lowest: int32
    [O]; levels are lowest .. lowest + 2^bits - 1, and what is beyond is moved to the nearest.
    """

    kind = "adaround"
    floor: torch.Tensor

    def __init__(self, latent: torch.Tensor, lowest: torch.Tensor, bits: int) -> None:
        super().__init__()
        low = lowest.view(-1, *(1,) * (latent.ndim - 1)).to(torch.float32)
        high = low + ((1 << bits) - 1)
        # With the highest level as the upper one too, V has a say there as anywhere else.
        latent = torch.minimum(torch.maximum(latent.to(torch.float32), low), high)
        floor = torch.minimum(latent.floor(), high - 1)
        self.register_buffer("floor", floor)
        self.v = nn.Parameter(inverse_rectified_sigmoid(latent - floor))

    def soft(self) -> torch.Tensor:
        return self.floor + self.up()

    def up(self) -> torch.Tensor:
        """Return h(V): how far up each weight is rounded, 0 to 1."""
        return rectified_sigmoid(self.v)

    def levels(self) -> torch.Tensor:
        return self.floor + (self.v >= 0)


class NearestRounding(Rounding):
    """Weights in steps that are rounded to nearest, which to gradients is the identity.

    What is computed with are the levels themselves, so that nothing has to harden, and a weight may
    move on to any level. The arguments are SoftRounding's.
    """

    kind = "nearest"
    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, latent: torch.Tensor, lowest: torch.Tensor, bits: int) -> None:
        super().__init__()
        self.register_buffer("low", lowest.view(-1, *(1,) * (latent.ndim - 1)).to(torch.float32))
        self.register_buffer("high", self.low + ((1 << bits) - 1))
        self.v = nn.Parameter(latent.to(torch.float32).clone())

    def soft(self) -> torch.Tensor:
        return self.v + (self.levels() - self.v).detach()

    def levels(self) -> torch.Tensor:
        return torch.minimum(torch.maximum(self.v.detach().round(), self.low), self.high)

    @torch.no_grad()
    def confine(self) -> None:
        """Let V be half a step beyond the outermost levels at most, else it would wander off."""
        self.v.copy_(torch.minimum(torch.maximum(self.v, self.low - 0.5), self.high + 0.5))


def rectified_sigmoid(v: torch.Tensor) -> torch.Tensor:
    """Return h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1) (Eq. 23)."""
    return (torch.sigmoid(v) * STRETCH + SHIFT).clamp(0, 1)


def inverse_rectified_sigmoid(h: torch.Tensor) -> torch.Tensor:
    """Return V of h in [0, 1]: of 0 and 1 the V where h has just reached them."""
    return torch.logit((h - SHIFT) / STRETCH)


def undecided(h: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the regulariser, sum of 1 - |2h - 1|^beta (Eq. 24): 0 where all are 0 or 1."""
    return (1 - (2 * h - 1).abs().pow(beta)).sum()
