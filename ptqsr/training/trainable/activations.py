"""What is trained in front of convolutions: quantizers whose ranges are parameters."""

from __future__ import annotations

import torch
from torch import nn

from ptqsr.quantizers import ActivationQuantizer, UniformQuantizer, grid
from ptqsr.training.processes import mean_over_processes
from ptqsr.training.trainable.functions import held, quantize_within

# No range is narrower: there must be something to divide by.
NARROWEST = 1e-6


class TrainableQuantizer(nn.Module):
    """Maps float32 [N, C, H, W] to what its codes stand for; `frozen` does exactly the same.

    Before training it is shown, in order, what the float network's layer reads: `observe`.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def observe(self, x: torch.Tensor) -> None:
        """Take in a batch, float32 [N, C, H, W], for the first values of the parameters."""
        raise NotImplementedError

    def few(self) -> list[bool] | None:
        """Return which samples of the last forward take the weight in FEW_BITS; None: none ever."""
        return None

    def frozen(self) -> ActivationQuantizer:
        """Return the quantizer of a finished network, with memory of its own."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{self.bits} bits"


class MaxScaleQuantizer(TrainableQuantizer):
    """PAMS: x^ = round(clamp(x, -alpha, alpha) n / alpha) alpha / n, n = 2^(bits-1) - 1 (Eq. 2).

    alpha = `start` * `theta`, float32 scalars: `start` is the moving average (Eq. 4, `beta` 0 at
    the first step) of the batch's mean of each sample's max |x|, `theta` is learnable, from 1, so
    that one learning rate fits the ranges of all tensors and networks. `trained`: DoReFa's range
    stays as it began; `both_sides`: PACT's is moved by values above alpha alone, not by those below
    -alpha. `unsigned`: what is never negative gets [0, alpha] in n = 2^bits - 1 steps (CADyQ,
    Eq. 1).
    """

    start: torch.Tensor
    theta: nn.Parameter
    nonnegative: torch.Tensor

    def __init__(
        self,
        bits: int,
        *,
        beta: float = 0.9997,
        trained: bool = True,
        both_sides: bool = True,
        unsigned: bool = False,
    ) -> None:
        super().__init__(bits)
        self.beta, self.both_sides, self.unsigned = beta, both_sides, unsigned
        self.register_buffer("start", torch.ones(()))
        self.theta = nn.Parameter(torch.ones(()), requires_grad=trained)
        # A lowest level of -n - 1, which nothing reaches, makes the number of levels a power of 2,
        # as convolutions in integers like it.
        self.register_buffer("nonnegative", torch.ones((), dtype=torch.bool))
        self.observed = 0

    @torch.no_grad()
    def observe(self, x: torch.Tensor) -> None:
        largest = x.abs().amax((1, 2, 3)).mean()
        self.start.copy_(self.start.lerp(largest, 1 - self.beta) if self.observed else largest)
        self.nonnegative &= x.amin() >= 0
        self.observed += 1

    @torch.no_grad()
    def begin_as(self, other: MaxScaleQuantizer) -> None:
        """Take the scale of a trained quantizer for the start."""
        self.start.copy_(other.alpha)
        self.theta.fill_(1)
        self.nonnegative.copy_(other.nonnegative)

    @property
    def alpha(self) -> torch.Tensor:
        return self.start * self.theta

    def _grid(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | int]:
        """Return step, lowest and highest level; nothing waits for a GPU."""
        signed = (1 << (self.bits - 1)) - 1
        alpha = self.alpha.detach().clamp(min=NARROWEST)
        if not self.unsigned:
            return alpha / signed, -signed - self.nonnegative.to(torch.int32), signed
        highest = torch.where(self.nonnegative, 2 * signed + 1, signed)
        lowest = torch.where(self.nonnegative, 0, -signed).to(torch.int32)
        return alpha / highest, lowest, highest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        step, lowest, highest = self._grid()
        high = held(self.alpha, NARROWEST)
        low = -(high if self.both_sides else high.detach())
        return quantize_within(x, low, high, step, lowest, bits=self.bits, highest=highest)

    def frozen(self) -> UniformQuantizer:
        step, lowest, highest = self._grid()
        levels = int(highest) - int(lowest) + 1
        return UniformQuantizer(step, lowest, bits=self.bits, levels=levels)


class MovingRangeQuantizer(TrainableQuantizer):
    """TF-Lite: asymmetric, over moving averages of the batches' ranges, followed while training.

    `low`, `high`: float32 scalars, averages of the mean over samples of their min and max.
    """

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, bits: int, *, beta: float = 0.9997) -> None:
        super().__init__(bits)
        self.beta = beta
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.observed = 0

    @torch.no_grad()
    def observe(self, x: torch.Tensor) -> None:
        self._follow(*_mean_range(x), 1 - self.beta if self.observed else 1.0)
        self.observed += 1

    def _follow(self, low: torch.Tensor, high: torch.Tensor, weight: float) -> None:
        self.low.lerp_(low, weight)
        self.high.lerp_(high, weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            low, high = mean_over_processes(torch.stack(_mean_range(x.detach().float())))
            self._follow(low, high, 1 - self.beta)
        step, lowest = grid(self.low, self.high, self.bits)
        low, high = self.low.clamp(max=0), self.high.clamp(min=0)
        return quantize_within(x, low, high, step, lowest, bits=self.bits)

    def frozen(self) -> UniformQuantizer:
        return UniformQuantizer(*grid(self.low, self.high, self.bits), bits=self.bits)


def _mean_range(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.amin((1, 2, 3)).mean(), x.amax((1, 2, 3)).mean()
