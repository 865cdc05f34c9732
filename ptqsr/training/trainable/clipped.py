"""ODM's quantizer: a range with two learnable ends, behind learnable offsets of channels."""

from __future__ import annotations

import torch
from torch import nn

from ptqsr.quantizers import OffsetQuantizer, Offsets, UniformQuantizer, displaced, grid
from ptqsr.training.trainable.activations import TrainableQuantizer
from ptqsr.training.trainable.functions import held, quantize_within
from ptqsr.training.trainable.weights import percentiles


class ClippedQuantizer(TrainableQuantizer):
    """ODM: asymmetric, both ends learnable (Eq. 1), channels shifted or scaled first (Eqs. 7-8).

    `first_low`, `first_high`: float32 scalars, percentiles (`tail` per cent of either side)
    averaged over batches; of a batch where both are 0, its minimum and maximum. `low_by`,
    `high_by`: float32 scalars, learnable, from 0: how far the ends have moved, in units of the
    larger of the first two magnitudes, so that one learning rate fits all tensors. The range
    includes 0, which is a level, as in all uniform quantizers here.
    `shift`: float32 [C], from 0, in widths of the first range; `gain`: float32 [C], from 1; both
    quantized to 4 bits on the way; or None.
    `keep`: whether what is quantized is kept in `seen`, for the variance regularisation.
    """

    first_low: torch.Tensor
    first_high: torch.Tensor

    def __init__(
        self, bits: int, channels: int, *, shifts: bool, scales: bool, tail: float = 1.0
    ) -> None:
        super().__init__(bits)
        self.tail = tail
        self.register_buffer("first_low", torch.zeros(()))
        self.register_buffer("first_high", torch.zeros(()))
        self.low_by = nn.Parameter(torch.zeros(()))
        self.high_by = nn.Parameter(torch.zeros(()))
        self.shift = nn.Parameter(torch.zeros(channels)) if shifts else None
        self.gain = nn.Parameter(torch.ones(channels)) if scales else None
        self.observed = 0
        self.keep = False
        self.seen: list[torch.Tensor] = []

    @torch.no_grad()
    def observe(self, x: torch.Tensor) -> None:
        self.observed += 1
        first, found = (self.first_low, self.first_high), percentiles(x, self.tail)
        if not any(found):  # of a tensor that hardly ever differs from 0
            found = x.aminmax()
        for end, value in zip(first, found, strict=True):
            end += (value - end) / self.observed

    def ends(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ends of the range, differentiable."""
        unit = torch.maximum(self.first_low.abs(), self.first_high.abs())
        unit = torch.where(unit > 0, unit, 1.0)  # of nothing but 0: the ends can move all the same
        return self.first_low + unit * self.low_by, self.first_high + unit * self.high_by

    def shifts(self) -> torch.Tensor | None:
        """Return what is added to channels, before it has few bits: float32 [C], if anything."""
        if self.shift is None:
            return None
        return self.shift * (self.first_high.clamp(min=0) - self.first_low.clamp(max=0))

    def offsets(self) -> list[nn.Parameter]:
        return [part for part in (self.shift, self.gain) if part is not None]

    def displaced(self, x: torch.Tensor) -> torch.Tensor:
        """Return what is quantized, X* (Eqs. 7-8)."""
        return displaced(x, _in_bits(self.shifts()), _in_bits(self.gain))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.displaced(x)
        if self.keep and self.training:
            self.seen.append(x)
        low, high = self.ends()
        step, lowest = self._grid()
        low, high = held(low, most=0.0), held(high, least=0.0)
        return quantize_within(x, low, high, step, lowest, bits=self.bits)

    @torch.no_grad()
    def _grid(self) -> tuple[torch.Tensor, torch.Tensor]:
        return grid(*self.ends(), self.bits)

    @torch.no_grad()
    def frozen(self) -> UniformQuantizer:
        step, lowest = self._grid()
        if not self.offsets():
            return UniformQuantizer(step, lowest, bits=self.bits)
        parts = (self.shifts(), self.gain)
        shift, gain = (p if p is None else Offsets.from_float(p) for p in parts)
        return OffsetQuantizer(step, lowest, bits=self.bits, shift=shift, gain=gain)


class _InBits(torch.autograd.Function):
    """Offsets as their bits hold them, with the gradient straight through."""

    @staticmethod
    def forward(ctx: object, values: torch.Tensor) -> torch.Tensor:
        return Offsets.from_float(values).values()

    @staticmethod
    def backward(ctx: object, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0].flatten()


def _in_bits(offsets: torch.Tensor | None) -> torch.Tensor | None:
    return None if offsets is None else _InBits.apply(offsets)  # type: ignore[no-any-return]
