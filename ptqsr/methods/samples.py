"""What blocks learn from: their inputs and outputs for calibration pictures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ptqsr.errors import PtqsrError
from ptqsr.methods.cache import Cache
from ptqsr.methods.units import passing
from ptqsr.models import SRNetwork

HELD_OUT = 4  # one picture in so many


class Pictures:
    """Calibration's pictures one by one, [1, C, H, W], as often as they are asked for.

    `numbers`: those that count, from 0 on; None: all.
    """

    def __init__(
        self, inputs: Iterable[torch.Tensor], numbers: Collection[int] | None = None
    ) -> None:
        self.inputs, self.numbers = inputs, numbers

    def __iter__(self) -> Iterator[torch.Tensor]:
        each = (picture for x in self.inputs for picture in x.split(1))
        for number, picture in enumerate(each):
            if self.numbers is None or number in self.numbers:
                yield picture


class Sample(NamedTuple):
    """A block's call: its input in the network quantized so far, and what the float block makes.

    `floating`: the float block's input, of which it makes that; where it was asked for.
    """

    given: torch.Tensor
    target: torch.Tensor
    floating: torch.Tensor | None = None


@dataclass(frozen=True)
class Samples:
    """Calls of a block, for each the numbers of a Sample's tensors in the cache."""

    cache: Cache
    rows: list[tuple[int, ...]]
    device: torch.device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Sample:
        return Sample(*(self.cache[n].to(self.device) for n in self.rows[number]))


def turned(x: torch.Tensor) -> list[torch.Tensor]:
    """Return a picture as it is, mirrored, transposed, and turned by a quarter.

    With few crops, weights fit themselves to these.
    """
    across = x.transpose(2, 3)
    return [t.contiguous() for t in (x, x.flip(3), across, across.flip(3))]


def divide(inputs: Iterable[torch.Tensor], seed: int) -> tuple[Pictures, Pictures]:
    """Return the pictures to learn from, and one in four, drawn at random, to hold out.

    Raises PtqsrError for fewer than two.
    """
    count = sum(len(x) for x in inputs)
    if count < 2:
        raise PtqsrError(
            "reconstruction: one calibration picture is too few; give two or more (one in "
            f"{HELD_OUT} is held out), or others as held_out"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    apart = max(1, count // HELD_OUT)
    return Pictures(inputs, set(order[apart:])), Pictures(inputs, set(order[:apart]))


@torch.no_grad()
def collect(
    cache: Cache,
    network: SRNetwork,
    model: SRNetwork,
    block: str,
    calls: int,
    pictures: Iterable[torch.Tensor],
    *,
    with_float: bool,
) -> Samples:
    """Return a block's calls for some pictures."""
    rows: list[tuple[int, ...]] = []
    device = torch.device("cpu")
    for x in pictures:
        device = x.device
        ours, theirs = (passing(net, block, calls, x) for net in (network, model))
        for (given, _), (floating, target) in zip(ours, theirs, strict=True):
            tensors = (given, target, floating) if with_float else (given, target)
            rows.append(tuple(cache.append(tensor) for tensor in tensors))
    return Samples(cache, rows, device)
