"""Streaming statistics of what quantized convolutions read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn

from ptqsr.calibration.inputs import Inputs
from ptqsr.calibration.readings import Part, Sighting
from ptqsr.calibration.statistics import Statistics
from ptqsr.errors import PtqsrError
from ptqsr.models import SRNetwork, observing

S = TypeVar("S", bound=Statistics)
# Called with how many pictures are done and how many there are.
Progress = Callable[[int, int], None]


@dataclass
class Share(Generic[S]):
    """Statistics of some pictures: of each part, by its number.

    `first`: the number of the first picture; `calls`: how often each layer ran, on every one.
    """

    statistics: dict[int, S]
    first: int
    calls: dict[str, int]

    def check_calls(self, calls: Mapping[str, int], number: int) -> None:
        """Raise PtqsrError where layers ran more or less often on picture `number`."""
        for name, usual in self.calls.items():
            if calls[name] != usual:
                raise PtqsrError(
                    f"layer {name}: runs {calls[name]} times on calibration picture {number}, "
                    f"{usual} on the first; exclude it, or give pictures of one size"
                )


def collect(
    network: SRNetwork,
    layers: Mapping[str, nn.Conv2d],
    parts: Mapping[int, Part],
    inputs: Iterable[torch.Tensor],
    make: Callable[[int, int], S],
) -> dict[int, S]:
    """Run the network over the inputs; return the statistics of each part, by its number.

    `make(number, channels)` gives the empty statistics. Raises PtqsrError for NaN or Inf.
    """
    return collect_share(network, layers, parts, inputs, make).statistics


@torch.inference_mode(False)  # tensors of that mode have no version
@torch.no_grad()
def collect_share(
    network: SRNetwork,
    layers: Mapping[str, nn.Conv2d],
    parts: Mapping[int, Part],
    inputs: Iterable[torch.Tensor],
    make: Callable[[int, int], S],
    first: int = 0,
) -> Share[S]:
    """Do the same for some of the pictures, of which the first has that number."""
    statistics = {number: make(number, part.channels) for number, part in parts.items()}
    shown: dict[tuple[str, int], list[tuple[int, Sighting]]] = {}
    for number, part in parts.items():
        for sighting in part.sightings:
            shown.setdefault((sighting.layer, sighting.call), []).append((number, sighting))
    watched = {name for name, _ in shown}
    share = Share(statistics, first, {})
    calls: dict[str, int] = {}

    def take(name: str, tensor: torch.Tensor) -> None:
        call = calls[name]
        calls[name] += 1
        for number, sighting in shown.get((name, call), ()):
            piece = tensor.narrow(1, sighting.start, parts[number].channels)
            if not torch.isfinite(piece).all():
                raise PtqsrError(
                    f"layer {name}: its input holds NaN or Inf; check the weights and the value "
                    "range of the pictures"
                )
            statistics[number].update(piece)

    with observing({name: layers[name] for name in watched}, take):
        for number, x in enumerate(inputs, first):
            calls.update(dict.fromkeys(watched, 0))
            network.check_output(x, network(x), f"calibration picture {number}")
            share.calls = share.calls or dict(calls)
            share.check_calls(calls, number)
    return share


class Gather(Protocol):
    """Where pictures are run over, and who shows how many of them are done."""

    def __call__(
        self,
        network: SRNetwork,
        layers: Mapping[str, nn.Conv2d],
        parts: Mapping[int, Part],
        inputs: Inputs,
        make: Callable[[int, int], Any],
        progress: Progress,
    ) -> dict[int, Any]:
        """Return what `collect` does."""


def gather(
    network: SRNetwork,
    layers: Mapping[str, nn.Conv2d],
    parts: Mapping[int, Part],
    inputs: Inputs,
    make: Callable[[int, int], Any],
    progress: Progress,
) -> dict[int, Any]:
    """Collect statistics in this process, one picture after the other."""

    def counted() -> Iterator[torch.Tensor]:
        progress(0, len(inputs))
        for done, x in enumerate(inputs, 1):
            yield x
            progress(done, len(inputs))

    return collect(network, layers, parts, counted(), make)
