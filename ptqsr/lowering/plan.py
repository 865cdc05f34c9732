"""The Plan: what a network computes, step by step; no model and no device in it.

Tensors have names, statistics and normalisations too. A step knows the names that it makes and
those that it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from ptqsr.modules import Codes, IntegerConv, SelectedConv, UniformCodes
from ptqsr.quantizers import SelectedQuantizer

# The name of what is known of the pictures that a method is given.
PICTURES = "measures of the pictures"


def statistics_of(tensor: str) -> str:
    """Return the name of a tensor's statistics."""
    return f"statistics of {tensor}"


def moments_of(tensor: str) -> str:
    """Return the name of a tensor's means and deviations."""
    return f"moments of {tensor}"


@dataclass(frozen=True, eq=False)
class Float:
    """A step as PyTorch does it: `node` of the traced graph; `module`: what it calls, if it does.

    `why`: for convolutions, why no integers.
    """

    name: str
    node: fx.Node
    module: nn.Module | None
    tensor: torch.Tensor | None
    why: str | None

    @property
    def makes(self) -> frozenset[str]:
        return frozenset({self.name})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(node.name for node in self.node.all_input_nodes)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean, low and high of each sample and channel of a tensor."""

    tensor: str

    @property
    def makes(self) -> frozenset[str]:
        return frozenset({statistics_of(self.tensor)})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.tensor})


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and deviation of each sample and channel of a tensor."""

    tensor: str

    @property
    def makes(self) -> frozenset[str]:
        return frozenset({moments_of(self.tensor)})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.tensor})


@dataclass(frozen=True, eq=False)
class Measure:
    """What bits are chosen by of the pictures, which are the tensor."""

    tensor: str

    @property
    def makes(self) -> frozenset[str]:
        return frozenset({PICTURES})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.tensor})


@dataclass(frozen=True)
class Piece:
    """Channels start to stop of a tensor; `whole`: that is all of them."""

    tensor: str
    start: int
    stop: int
    whole: bool


@dataclass(frozen=True, eq=False)
class Normalise:
    """Mean and scale for encoding, from the statistics of what a tensor is made of."""

    name: str
    pieces: tuple[Piece, ...]
    nonnegative: torch.Tensor

    @property
    def makes(self) -> frozenset[str]:
        return frozenset({self.name})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(statistics_of(piece.tensor) for piece in self.pieces)


@dataclass(frozen=True, eq=False)
class Choose:
    """Step, lowest level and levels of each sample, as a layer's quantizer chooses them.

    By the pictures' measures and the moments, or `extremes`, of what its input is made of.
    """

    name: str
    layer: str
    quantizer: SelectedQuantizer
    pieces: tuple[Piece, ...]
    extremes: bool

    @property
    def makes(self) -> frozenset[str]:
        return frozenset({self.name})

    @property
    def needs(self) -> frozenset[str]:
        known = statistics_of if self.extremes else moments_of
        return frozenset({PICTURES, *(known(piece.tensor) for piece in self.pieces)})


@dataclass(frozen=True, eq=False)
class Encode:
    """From a float tensor to codes that convolutions read. `normalised`: for subsets."""

    name: str
    tensor: str
    codes: Codes
    normalised: str | None

    @property
    def makes(self) -> frozenset[str]:
        return frozenset({self.name})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(name for name in (self.tensor, self.normalised) if name)


@dataclass(frozen=True, eq=False)
class Source:
    """A part of the concatenation that a convolution reads: float, encoded there, or codes."""

    tensor: str
    normalised: str | None
    is_codes: bool

    @property
    def needs(self) -> tuple[str | None, ...]:
        return self.tensor, self.normalised


@dataclass(frozen=True, eq=False)
class Convolve:
    """An integer convolution with all that is fused into it, in the order of `absorbed`.

    `conv` has what was folded into steps and bias. The result is stored as `dtype`: float32,
    float16, or uint8 codes of `out`. `chosen`: what samples are encoded by, where they choose.
    `statistics`, `moments`: which of them it gives of its result.
    """

    name: str
    layer: str
    conv: IntegerConv
    sources: tuple[Source, ...]
    chosen: str | None
    activation: str
    slope: torch.Tensor | None
    residual: str | None
    last_activation: str
    shuffle: int
    statistics: bool
    moments: bool
    dtype: torch.dtype
    out: UniformCodes | None
    absorbed: tuple[str, ...]

    @property
    def makes(self) -> frozenset[str]:
        names = {self.name}
        names |= {statistics_of(self.name)} if self.statistics else set()
        return frozenset(names | ({moments_of(self.name)} if self.moments else set()))

    @property
    def needs(self) -> frozenset[str]:
        named = (name for source in self.sources for name in source.needs)
        return frozenset(name for name in (*named, self.residual, self.chosen) if name)


@dataclass(frozen=True, eq=False)
class DropIn:
    """A convolution by itself, of a network that could not be traced.

    It runs in integers where it has `conv`; `why`: why it is the `module` that it was.
    """

    layer: str
    module: nn.Module | None
    conv: IntegerConv | SelectedConv | None
    why: str | None

    @property
    def makes(self) -> frozenset[str]:
        return frozenset()

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()


Record = Float | Statistics | Moments | Measure | Normalise | Choose | Encode | Convolve | DropIn


@dataclass(frozen=True, eq=False)
class Plan:
    """The steps in order. `output`: the tensor that the network returns.

    `floats`: what PyTorch's own steps compute in, and what they are given is stored as. `reason`:
    why the network could not be traced; then the records are single layers.
    """

    inputs: tuple[str, ...]
    records: tuple[Record, ...]
    output: str
    floats: torch.dtype = torch.float32
    reason: str | None = None

    def __repr__(self) -> str:
        # Its tensors would fill thousands of lines; ptqsr.deployment.describe puts it in words.
        return f"Plan({len(self.records)} steps, {len(list(self.convolutions))} in integers)"

    def __deepcopy__(self, memo: dict[int, Any]) -> Plan:
        return self  # nothing in it changes

    @property
    def convolutions(self) -> Iterator[Convolve]:
        return (record for record in self.records if isinstance(record, Convolve))
