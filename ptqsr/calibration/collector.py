"""Streaming statistics of what quantized convolutions read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import nn

from ptqsr.calibration.readings import Part, Sighting
from ptqsr.calibration.statistics import Measure
from ptqsr.errors import PtqsrError
from ptqsr.models import SRNetwork, observing

S = TypeVar("S", bound=Measure)


@torch.inference_mode(False)  # tensors of that mode have no version
@torch.no_grad()
def collect(
    network: SRNetwork,
    layers: Mapping[str, nn.Module],
    parts: Mapping[int, Part],
    inputs: Iterable[torch.Tensor],
    make: Callable[[int, int], S],
    *,
    run: Callable[[torch.Tensor], torch.Tensor] | None = None,
    usual: Mapping[str, int] | None = None,
    first: int = 0,
) -> dict[int, S]:
    """Run the network over the inputs; return the statistics of each part, by its number.

    `make(number, channels)` gives the empty statistics. `run`: what to run of the network where the
    layers are not all over it. `usual`: how often each layer runs (Readings.calls), by default as
    on the first input, whose number is `first`. Raises PtqsrError for NaN or Inf.
    """
    statistics = {number: make(number, part.channels) for number, part in parts.items()}
    shown: dict[tuple[str, int], list[tuple[int, Sighting]]] = {}
    for number, part in parts.items():
        for sighting in part.sightings:
            shown.setdefault((sighting.layer, sighting.call), []).append((number, sighting))
    watched = {name for name, _ in shown}
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
            if run is None:
                network.check_output(x, network(x), f"calibration picture {number}")
            else:
                run(x)
            usual = usual or dict(calls)
            for name in watched:
                if calls[name] != usual[name]:
                    raise PtqsrError(
                        f"layer {name}: runs {calls[name]} times on calibration picture {number}, "
                        f"{usual[name]} on the first; exclude it, or give pictures of one size"
                    )
    return statistics
