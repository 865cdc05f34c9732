"""Uniform quantization of channels that are shifted and scaled first (ODM, Eqs. 7-8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ptqsr.quantizers.uniform import UniformQuantizer

# Of shifts and gains: signed and symmetric.
OFFSET_BITS = 4
OFFSET_LIMIT = (1 << (OFFSET_BITS - 1)) - 1


@dataclass(frozen=True)
class Offsets:
    """A number for every channel, codes * step: int8 [C] in -7 .. 7, float32 scalar."""

    codes: torch.Tensor
    step: torch.Tensor

    @classmethod
    def from_float(cls, values: torch.Tensor) -> Offsets:
        """Quantize float32 [C] over [-a, a], a = max |value|; all zeros stay what they are."""
        values = values.detach()
        step = values.abs().amax() / OFFSET_LIMIT
        step = torch.where(step > 0, step, torch.ones_like(step))
        return cls(torch.round(values / step).to(torch.int8), step)

    def values(self) -> torch.Tensor:
        """Return float32 [C, 1, 1]."""
        return (self.codes.to(torch.float32) * self.step).view(-1, 1, 1)


class OffsetQuantizer(UniformQuantizer):
    """Quantizes (x + shift) * gain as UniformQuantizer does; what it gives is not shifted back.

    Convolutions read the levels as they are: weights and biases are trained for that. `shift` and
    `gain` have 4 bits a channel; either may be None.
    """

    kind = "uniform with offsets"

    def __init__(
        self,
        step: torch.Tensor,
        lowest: torch.Tensor,
        *,
        bits: int,
        shift: Offsets | None,
        gain: Offsets | None,
    ) -> None:
        super().__init__(step, lowest, bits=bits)
        self.offsets = [name for name, part in (("shift", shift), ("gain", gain)) if part]
        for name, part in (("shift", shift), ("gain", gain)):
            if part is not None:
                self.register_buffer(f"{name}_codes", part.codes)
                self.register_buffer(f"{name}_step", part.step)

    def part(self, name: str) -> Offsets | None:
        """Return its "shift" or "gain", if it has one."""
        if name not in self.offsets:
            return None
        return Offsets(self.get_buffer(f"{name}_codes"), self.get_buffer(f"{name}_step"))

    def values(self, name: str) -> torch.Tensor | None:
        """Return its "shift" or "gain", float32 [C, 1, 1], if it has one."""
        part = self.part(name)
        return None if part is None else part.values()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(displaced(x, self.values("shift"), self.values("gain")))

    def check(self, channels: int) -> None:
        super().check(channels)
        for name in self.offsets:
            part = self.part(name)
            assert part is not None
            if (part.codes.dtype, part.codes.shape) != (torch.int8, (channels,)):
                raise ValueError(f"{name} of {part.codes.dtype} {tuple(part.codes.shape)}")
            if (part.step.dtype, part.step.shape) != (torch.float32, ()):
                raise ValueError(f"step of {name} is {part.step.dtype} {tuple(part.step.shape)}")
            # Not abs(): of -128 it is negative.
            outside = (part.codes < -OFFSET_LIMIT) | (part.codes > OFFSET_LIMIT)
            if outside.any() or not (part.step > 0 and part.step.isfinite()):
                raise ValueError(f"{name} outside {OFFSET_BITS} bits, or of step {part.step}")

    @property
    def offset_bits(self) -> int:
        """What its shifts and gains take, without their steps."""
        return sum(OFFSET_BITS * self.get_buffer(f"{n}_codes").numel() for n in self.offsets)

    def storage_bits(self) -> int:
        own = sum(8 * b.numel() * b.element_size() for b in (self.step, self.lowest))
        return own + self.offset_bits + 32 * len(self.offsets)

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, torch.Tensor]) -> OffsetQuantizer:
        def part(name: str) -> Offsets | None:
            codes = tensors.get(f"{name}_codes")
            return None if codes is None else Offsets(codes, tensors[f"{name}_step"])

        step, lowest, bits = tensors["step"], tensors["lowest"], settings["bits"]
        return cls(step, lowest, bits=bits, shift=part("shift"), gain=part("gain"))


def displaced(
    x: torch.Tensor, shift: torch.Tensor | None, gain: torch.Tensor | None
) -> torch.Tensor:
    """Return (x + shift) * gain, either of them [C, 1, 1] or None."""
    x = x if shift is None else x + shift
    return x if gain is None else x * gain
