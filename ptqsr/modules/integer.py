"""What an integer convolution is made of: parameters, without any device's kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from ptqsr.errors import PtqsrError
from ptqsr.modules.fake import FakeQuantConv2d
from ptqsr.quantizers import (
    CHOICES,
    OffsetQuantizer,
    SelectedQuantizer,
    SubsetQuantizer,
    UniformQuantizer,
)

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class SubsetCodes:
    """How channels become points of an int8 set: points int32 [C, L], nonnegative bool [C]."""

    kind: ClassVar[str] = "subset"
    points: torch.Tensor
    nonnegative: torch.Tensor
    denominator: int
    bits: int
    set_name: str

    def channels(self, start: int, stop: int) -> SubsetCodes:
        """Return that of some of the channels."""
        points, nonnegative = self.points[start:stop], self.nonnegative[start:stop]
        return SubsetCodes(points, nonnegative, self.denominator, self.bits, self.set_name)

    def key(self) -> tuple[object, ...]:
        """Return what two have in common that give the same codes."""
        flags = self.nonnegative.cpu().numpy().tobytes()
        return (self.kind, self.denominator, self.points.cpu().numpy().tobytes(), flags)


@dataclass(frozen=True, eq=False)
class UniformCodes:
    """How a tensor becomes levels: step float32 scalar, lowest level int32 scalar.

    `levels`: how many there are, at most 2^bits. `shift`, `gain`: float32 [C, 1, 1] or None; it is
    (x + shift) * gain that is encoded.
    """

    kind: ClassVar[str] = "uniform"
    step: torch.Tensor
    lowest: torch.Tensor
    bits: int
    levels: int
    shift: torch.Tensor | None = None
    gain: torch.Tensor | None = None

    @property
    def plain(self) -> bool:
        """Whether convolutions can encode so themselves, what they read and what they give."""
        return self.shift is None and self.gain is None

    def channels(self, start: int, stop: int) -> UniformCodes:
        shift, gain = (t if t is None else t[start:stop] for t in (self.shift, self.gain))
        return replace(self, shift=shift, gain=gain)

    def key(self) -> tuple[object, ...]:
        offsets = (t if t is None else t.cpu().numpy().tobytes() for t in (self.shift, self.gain))
        return (self.kind, float(self.step), int(self.lowest), self.bits, self.levels, *offsets)


def levels_tensor(codes: UniformCodes) -> torch.Tensor | None:
    """Return the number of levels as convolutions take it: None where the bits give as many."""
    full = codes.levels == 1 << codes.bits
    return None if full else torch.tensor(codes.levels, dtype=torch.int32)


@dataclass(frozen=True, eq=False)
class SelectedCodes:
    """How a tensor becomes levels of the candidate that each of its samples takes.

    `bits`: of the widest candidate. Convolutions encode so themselves what they read.
    """

    kind: ClassVar[str] = "uniform"
    plain: ClassVar[bool] = True
    quantizer: SelectedQuantizer
    bits: int

    @property
    def measure(self) -> str | None:
        """What of the tensor it is chosen by."""
        return CHOICES[self.quantizer.by][1]

    def channels(self, start: int, stop: int) -> SelectedCodes:
        return self

    def key(self) -> tuple[object, ...]:
        return (self.kind, id(self.quantizer))


Codes = SubsetCodes | UniformCodes | SelectedCodes


@dataclass(frozen=True, eq=False)
class IntegerConv:
    """A convolution of `codes` with weights levels * step: int16 [O, C/g, K, K], float32 [O]."""

    codes: Codes
    levels: torch.Tensor
    step: torch.Tensor
    bias: torch.Tensor | None
    weight_bits: int
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


def integer_conv(layer: FakeQuantConv2d) -> IntegerConv:
    """Return what a fake-quantized layer computes, as integers.

    Raises PtqsrError where no integer convolution does: it begins with the reason.
    """
    weight = layer.quantized_weight
    levels = weight.codes.to(torch.int16) + weight.zero_point.view(-1, 1, 1, 1)
    return IntegerConv(
        codes=_codes(layer),
        levels=levels,
        step=weight.step.detach(),
        bias=None if layer.bias is None else layer.bias.detach(),
        weight_bits=weight.bits,
        stride=_pair(layer.stride),
        padding=_padding(layer),
        dilation=_pair(layer.dilation),
        groups=layer.groups,
    )


def _codes(layer: FakeQuantConv2d) -> Codes:
    parts = layer.quantizer.parts
    first = parts[0]
    if isinstance(first, SelectedQuantizer):
        if first.weights_follow:
            raise PtqsrError("its weight follows the bits that samples choose")
        return SelectedCodes(first, first.bits)
    if isinstance(first, UniformQuantizer):
        offsets = (
            [first.part(n) for n in ("shift", "gain")] if isinstance(first, OffsetQuantizer) else ()
        )
        values = (None if part is None else part.values() for part in offsets)
        return UniformCodes(first.step, first.lowest, first.bits, first.levels, *values)
    subsets = [part for part in parts if isinstance(part, SubsetQuantizer)]
    if not subsets:
        raise PtqsrError(f"quantizer {first.kind} has no integer form")
    universal_set = subsets[0].universal_set
    if not universal_set.is_int8:
        raise PtqsrError(f"universal set {universal_set.name} is not int8")
    return SubsetCodes(
        torch.cat([part.points for part in subsets]),
        torch.cat([part.nonnegative for part in subsets]),
        universal_set.denominator,
        subsets[0].bits,
        universal_set.name,
    )


def _padding(layer: FakeQuantConv2d) -> Pair:
    if layer.padding_mode != "zeros":
        raise PtqsrError(f"padding mode {layer.padding_mode}")
    if layer.padding == "valid":
        return 0, 0
    if not isinstance(layer.padding, str):
        return _pair(layer.padding)
    totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    if any(total % 2 for total in totals):
        raise PtqsrError("padding same of an even kernel, which is not the same on both sides")
    return totals[0] // 2, totals[1] // 2


def _pair(values: tuple[int, ...]) -> Pair:
    first, second = values
    return first, second
