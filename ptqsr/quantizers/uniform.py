"""Uniform quantization: of activations per tensor, of weights per output channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ptqsr import ops
from ptqsr.config import MAX_BITS, MIN_BITS
from ptqsr.quantizers.base import ActivationQuantizer


def grid(low: torch.Tensor, high: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (step float32, lowest level int32) of 2^bits levels over [low, high] and 0.

    0 is always a level. Where low = high = 0 the step is 1: there is nothing to divide.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    step = (high - low) / ((1 << bits) - 1)
    step = torch.where(step > 0, step, torch.ones_like(step))
    return step, torch.round(low / step).to(torch.int32)


def symmetric(largest: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (step, lowest level): largest / n, n = 2^(bits-1) - 1, and -n - 1.

    The lowest level is there for the sake of the codes; nothing reaches it.
    """
    step = largest / ((1 << (bits - 1)) - 1)
    step = torch.where(step > 0, step, torch.ones_like(step))
    return step, torch.full_like(step, -(1 << (bits - 1)), dtype=torch.int32)


def quantized(
    x: torch.Tensor,
    step: torch.Tensor,
    lowest: torch.Tensor,
    bits: int,
    highest: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Return step * clamp(round(x / step), lowest, highest); highest: lowest + 2^bits - 1 if None.

    highest, where given, is no larger than that.
    """
    y = ops.uniform_fake_quant(x, step, lowest, bits)
    return y if highest is None else y.clamp(max=(highest * step).to(y.dtype))


class UniformQuantizer(ActivationQuantizer):
    """Asymmetric and per tensor: x^ = step * clamp(round(x / step), lowest, lowest + levels - 1).

    The range is fixed at calibration. `step`: float32 scalar; `lowest`: int32 scalar; `levels`:
    2^bits, or fewer: 2^bits - 1 are as many on either side of 0.
    """

    kind = "uniform"
    step: torch.Tensor
    lowest: torch.Tensor

    def __init__(
        self, step: torch.Tensor, lowest: torch.Tensor, *, bits: int, levels: int | None = None
    ) -> None:
        super().__init__()
        self.bits = bits
        self.fewer = levels  # None: as many as the bits give
        self.register_buffer("step", step)
        self.register_buffer("lowest", lowest)

    @classmethod
    def from_range(cls, low: float, high: float, bits: int) -> UniformQuantizer:
        step, lowest = grid(torch.tensor(low), torch.tensor(high), bits)
        return cls(step, lowest, bits=bits)

    @property
    def levels(self) -> int:
        return 1 << self.bits if self.fewer is None else self.fewer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        highest = None if self.levels == 1 << self.bits else self.lowest + (self.levels - 1)
        return quantized(x, self.step, self.lowest, self.bits, highest)

    def check(self, channels: int) -> None:
        if (self.step.dtype, self.step.shape) != (torch.float32, ()):
            raise ValueError(f"step is {self.step.dtype} {tuple(self.step.shape)}")
        if (self.lowest.dtype, self.lowest.shape) != (torch.int32, ()):
            raise ValueError(f"lowest level is {self.lowest.dtype} {tuple(self.lowest.shape)}")
        if not isinstance(self.bits, int) or not MIN_BITS <= self.bits <= MAX_BITS:
            raise ValueError(f"{self.bits} bits")
        if not (self.step > 0 and self.step.isfinite() and -(1 << self.bits) < self.lowest <= 0):
            raise ValueError(f"step {self.step} and lowest level {self.lowest}")
        if not isinstance(self.levels, int) or not 2 <= self.levels <= 1 << self.bits:
            raise ValueError(f"{self.levels} levels of {self.bits} bits")

    def settings(self) -> dict[str, Any]:
        every = self.levels == 1 << self.bits
        return {"bits": self.bits, **({} if every else {"levels": self.levels})}

    @classmethod
    def restore(
        cls, settings: dict[str, Any], tensors: dict[str, torch.Tensor]
    ) -> UniformQuantizer:
        levels = settings.get("levels")
        return cls(tensors["step"], tensors["lowest"], bits=settings["bits"], levels=levels)


@dataclass(frozen=True)
class QuantizedWeight:
    """A convolution's weight as integers (DFSQ, Eqs. 6-7): w^ = (codes + zero_point) * step.

    `codes`: int8 [O, I/groups, K, K] in -2^(bits-1) .. 2^(bits-1) - 1; `step`: float32 [O];
    `zero_point`: int16 [O].
    """

    codes: torch.Tensor
    step: torch.Tensor
    zero_point: torch.Tensor
    bits: int

    @classmethod
    def from_float(cls, weight: torch.Tensor, bits: int) -> QuantizedWeight:
        """Quantize per output channel over [min, max] of the kernel and 0."""
        flat = weight.detach().to(torch.float32).flatten(1)
        step, lowest = grid(flat.amin(1), flat.amax(1), bits)
        levels = torch.round(flat / step[:, None]).view(weight.shape)
        return cls.from_levels(levels, step, lowest, bits)

    @classmethod
    def from_levels(
        cls, levels: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
    ) -> QuantizedWeight:
        """Return the weight levels * step, levels [O, I/groups, K, K] from `lowest` [O] on.

        Levels beyond the 2^bits that there are become the nearest of these.
        """
        half = 1 << (bits - 1)
        zero_point = lowest + half
        codes = (levels - zero_point.view(-1, *(1,) * (levels.ndim - 1))).clamp(-half, half - 1)
        return cls(codes.to(torch.int8), step, zero_point.to(torch.int16), bits)

    def to(self, device: torch.device) -> QuantizedWeight:
        codes, step, zero_point = (t.to(device) for t in (self.codes, self.step, self.zero_point))
        return QuantizedWeight(codes, step, zero_point, self.bits)

    def check(self) -> None:
        """Raise ValueError where the parts do not fit each other."""
        kernels = (len(self.codes),)
        if (self.step.dtype, self.step.shape) != (torch.float32, kernels):
            raise ValueError(f"steps are {self.step.dtype} {tuple(self.step.shape)}")
        if (self.zero_point.dtype, self.zero_point.shape) != (torch.int16, kernels):
            raise ValueError(f"zero points are {self.zero_point.dtype}")
        if not isinstance(self.bits, int) or not MIN_BITS <= self.bits <= MAX_BITS:
            raise ValueError(f"{self.bits} bits")
        if not ((self.step > 0) & self.step.isfinite()).all():
            raise ValueError("steps that are not positive and finite")
        lowest = self.zero_point.int() - (1 << (self.bits - 1))  # 0 is among the levels
        if ((lowest > 0) | (lowest <= -(1 << self.bits))).any():
            raise ValueError("zero points outside the levels")

    def coarser(self, bits: int) -> QuantizedWeight:
        """Return w^ in fewer bits: symmetric, one step, max |w^| / (2^(bits-1) - 1)."""
        weight = self.dequantize()
        step, lowest = symmetric(weight.abs().amax(), bits)
        rows = len(self.codes)
        return QuantizedWeight.from_levels(
            torch.round(weight / step), step.repeat(rows), lowest.repeat(rows), bits
        )

    def levels(self) -> torch.Tensor:
        """Return w^ in units of the step, float32 [O, I/groups, K, K]: whole numbers."""
        shape = (-1, *(1,) * (self.codes.ndim - 1))
        return self.codes.to(torch.float32) + self.zero_point.view(shape)

    def dequantize(self) -> torch.Tensor:
        """Return w^, float32 [O, I/groups, K, K]."""
        return self.levels() * self.step.view(-1, *(1,) * (self.codes.ndim - 1))
