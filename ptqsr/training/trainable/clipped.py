"""ODM's quantizer: a range with two learnable ends, behind learnable offsets of channels."""

from __future__ import annotations

import torch
from torch import nn

from ptqsr.quantizers import OffsetQuantizer, Offsets, UniformQuantizer, displaced, grid
from ptqsr.training.trainable.activations import TrainableQuantizer
from ptqsr.training.trainable.functions import quantize_within
from ptqsr.training.trainable.weights import percentiles


class ClippedQuantizer(TrainableQuantizer):
    """ODM: asymmetric, both ends learnable (Eq. 1), channels shifted or scaled first (Eqs. 7-8).

    `low`, `high`: float32 scalars, from percentiles (`tail` per cent of either side) averaged over
    batches. The range includes 0, which is a level, as in all uniform quantizers here. `shift`,
    `gain`: float32 [C], from 0 and 1, quantized to 4 bits on the way; or None.
    `keep`: whether what is quantized is kept in `seen`, for the variance regularisation.
    """

    low: nn.Parameter
    high: nn.Parameter

    def __init__(
        self, bits: int, channels: int, *, shifts: bool, scales: bool, tail: float = 1.0
    ) -> None:
        super().__init__(bits)
        self.tail = tail
        self.low = nn.Parameter(torch.zeros(()))
        self.high = nn.Parameter(torch.zeros(()))
        self.shift = nn.Parameter(torch.zeros(channels)) if shifts else None
        self.gain = nn.Parameter(torch.ones(channels)) if scales else None
        self.observed = 0
        self.keep = False
        self.seen: list[torch.Tensor] = []

    @torch.no_grad()
    def observe(self, x: torch.Tensor) -> None:
        self.observed += 1
        for end, value in zip((self.low, self.high), percentiles(x, self.tail), strict=True):
            end.data += (value - end) / self.observed

    def offsets(self) -> list[nn.Parameter]:
        return [part for part in (self.shift, self.gain) if part is not None]

    def displaced(self, x: torch.Tensor) -> torch.Tensor:
        """Return what is quantized, X* (Eqs. 7-8)."""
        return displaced(x, _in_bits(self.shift), _in_bits(self.gain))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.displaced(x)
        if self.keep and self.training:
            self.seen.append(x)
        low, high = self.low.clamp(max=0), self.high.clamp(min=0)
        step, lowest = grid(low.detach(), high.detach(), self.bits)
        return quantize_within(x, low, high, step, lowest, bits=self.bits)

    @torch.no_grad()
    def frozen(self) -> UniformQuantizer:
        step, lowest = grid(self.low, self.high, self.bits)
        if not self.offsets():
            return UniformQuantizer(step, lowest, bits=self.bits)
        shift, gain = (p if p is None else Offsets.from_float(p) for p in (self.shift, self.gain))
        return OffsetQuantizer(step, lowest, bits=self.bits, shift=shift, gain=gain)


class _InBits(torch.autograd.Function):
    """Offsets as their bits hold them, with the gradient straight through."""

    @staticmethod
    def forward(ctx: object, values: torch.Tensor) -> torch.Tensor:
        return Offsets.from_float(values).values()

    @staticmethod
    def backward(ctx: object, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0].flatten()


def _in_bits(offsets: nn.Parameter | None) -> torch.Tensor | None:
    return None if offsets is None else _InBits.apply(offsets)  # type: ignore[no-any-return]
