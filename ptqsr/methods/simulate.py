"""From a float network and pictures to a fake-quantized one, its weights rounded to nearest."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ptqsr.calibration import (
    ChannelRanges,
    Inputs,
    Part,
    Readings,
    Statistics,
    cards,
    collect,
    readings,
)
from ptqsr.config import Config, Rule
from ptqsr.errors import PtqsrError, is_out_of_memory, one_line
from ptqsr.methods.base import Method
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d, as_convolutions, convolutions, replace
from ptqsr.quantizers import ActivationQuantizer, join

# Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]
# Fills what `make` gives, as `collect` does; is told how often each layer runs, and shows how many
# inputs are done.
Gather = Callable[
    [
        SRNetwork,
        Mapping[str, nn.Conv2d],
        Mapping[int, Part],
        Inputs,
        Callable[[int, int], Any],
        Mapping[str, int],
        Callable[[int, int], None],
    ],
    dict[int, Any],
]


def simulate(
    model: SRNetwork,
    inputs: Inputs,
    config: Config,
    method: type[Method],
    rules: Mapping[str, Rule],
    *,
    progress: Progress = lambda what, done, total: None,
    gather: Gather | None = None,
) -> tuple[SRNetwork, dict[str, Rule]]:
    """Return a fake-quantized copy of `model`, and the rules by its convolutions' names.

    Raises PtqsrError as `Observed`.
    """
    seen = Observed(model, inputs, config, method, [rules], progress=progress, gather=gather)
    layers = seen.quantized(rules)
    replace(seen.network, {seen.layers[name]: layer for name, layer in layers.items()})
    seen.network.calibration = config
    return seen.network.eval(), {seen.names[name]: rule for name, rule in rules.items()}


class Observed:
    """A copy of a float network, and what calibration pictures showed of it.

    `several`: rules of the layers to quantize, by their names in `model` (ptqsr.plan.rules); all
    that quantizers of any of these need is measured at once. In the copy, `network`, linear layers
    and transposed convolutions among them are convolutions; `names` has the names of these,
    `layers` the convolutions. `gather`: what takes the inputs elsewhere for statistics. Raises
    PtqsrError where an input, a weight or an activation is not usable, and names it.
    """

    @torch.inference_mode(False)  # the copy is changed in place, and may be trained
    def __init__(
        self,
        model: SRNetwork,
        inputs: Inputs,
        config: Config,
        method: type[Method],
        several: Sequence[Mapping[str, Rule]],
        *,
        progress: Progress = lambda what, done, total: None,
        gather: Gather | None = None,
    ) -> None:
        self.config, self.method, self.progress, self.gather = config, method, progress, gather
        self.network = copy.deepcopy(model).eval().requires_grad_(False)
        self.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise PtqsrError(f"layer {name.rpartition('.')[0]}: {name} holds NaN or Inf")
        self.names = as_convolutions(self.network, several[0])
        self.layers = convolutions(self.network, self.names.values())
        self.device = inputs.device
        first = next(iter(inputs))
        together = {now: tuple(r[name] for r in several) for name, now in self.names.items()}
        self.readings = self._readings(first, together)
        self.parts = dict(enumerate(self.readings.parts))
        # The sightings of a part are all of the same rules.
        rules = {n: together[part.sightings[0].layer] for n, part in self.parts.items()}
        self.ranges = {n: ChannelRanges(part.channels) for n, part in self.parts.items()}
        self._collect("ranges", inputs, self.ranges)
        whole = {n: found for n, found in self.ranges.items() if rules[n][0].whole_range}
        if whole:
            self._collect("test cards", cards(first), whole)
        self.details = {n: self._empty(n, wanted) for n, wanted in rules.items()}
        for turn in range(max(map(len, self.details.values()))):
            each = {n: list(found.values()) for n, found in self.details.items()}
            told = {n: found[turn] for n, found in each.items() if turn < len(found)}
            self._collect("distributions", inputs, told)

    def _readings(self, x: torch.Tensor, rules: Mapping[str, Sequence[Rule]]) -> Readings:
        """Return what the layers read; networks of the user's own may not take the picture."""
        per_channel = self.method.per_channel
        try:
            return readings(self.network, self.layers, x, per_channel=per_channel, rules=rules)
        except PtqsrError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            height, width = x.shape[2:]
            reason = one_line(f"{type(error).__name__}: {error}")
            raise PtqsrError(
                f"the network does not run on a calibration picture of {width}x{height} pixels "
                f"({reason}); give sizes that it takes, or wrap it with multiple_of"
            ) from error

    def _empty(self, number: int, rules: Iterable[Rule]) -> dict[str, Statistics]:
        """Return the empty statistics of a part by universal set.

        Rules that differ in their bits alone share them.
        """
        found: dict[str, Statistics] = {}
        for rule in dict.fromkeys(rules):
            statistics = self.method(self.config, rule).statistics(self.ranges[number])
            if statistics is not None:
                found.setdefault(rule.universal_set, statistics)
        return found

    def _collect(
        self,
        what: str,
        pictures: Collection[torch.Tensor] | Inputs,
        empty: Mapping[int, Statistics],
    ) -> None:
        """Fill statistics, by parts' numbers."""
        parts = {number: self.parts[number] for number in empty}

        def make(number: int, _: int) -> Statistics:
            return empty[number]

        if self.gather is not None and isinstance(pictures, Inputs):
            show, calls = partial(self.progress, what), self.readings.calls
            self.gather(self.network, self.layers, parts, pictures, make, calls, show)
        else:
            collect(self.network, self.layers, parts, self._counted(what, pictures), make)

    def _counted(
        self, what: str, pictures: Collection[torch.Tensor] | Inputs
    ) -> Iterator[torch.Tensor]:
        self.progress(what, 0, len(pictures))
        for done, x in enumerate(pictures, 1):
            yield x
            self.progress(what, done, len(pictures))

    @torch.inference_mode(False)
    def quantized(self, rules: Mapping[str, Rule]) -> dict[str, FakeQuantConv2d]:
        """Return what takes the convolutions' places by one of the `several`, by their names."""
        now = {self.names[name]: rule for name, rule in rules.items()}
        recipes = {rule: self.method(self.config, rule) for rule in dict.fromkeys(now.values())}
        quantizers = []
        for number, part in self.parts.items():
            self.progress("quantizers", number, len(self.parts))
            rule = now[part.sightings[0].layer]
            details = self.details[number].get(rule.universal_set)
            quantizer = recipes[rule].quantizer(part, self.ranges[number], details)
            quantizers.append(quantizer.to(self.device))
        self.progress("quantizers", len(self.parts), len(self.parts))
        joined: dict[tuple[int, ...], ActivationQuantizer] = {}
        for numbers in self.readings.layers.values():
            if numbers not in joined:
                joined[numbers] = join([quantizers[number] for number in numbers])
        return {
            name: FakeQuantConv2d(
                conv, joined[self.readings.layers[name]], recipes[now[name]].weight(conv.weight)
            )
            for name, conv in self.layers.items()
        }
