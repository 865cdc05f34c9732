"""From a float network and pictures to a fake-quantized one, its weights rounded to nearest."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping

import torch

from ptqsr.calibration import ChannelRanges, Inputs, cards, collect, readings
from ptqsr.config import Config, Rule
from ptqsr.errors import PtqsrError
from ptqsr.methods.base import Method
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d, as_convolutions, convolutions, replace
from ptqsr.quantizers import ActivationQuantizer, join

# Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


@torch.inference_mode(False)
def simulate(
    model: SRNetwork,
    inputs: Inputs,
    config: Config,
    method: type[Method],
    rules: Mapping[str, Rule],
    *,
    progress: Progress = lambda what, done, total: None,
) -> tuple[SRNetwork, dict[str, Rule]]:
    """Return a fake-quantized copy of `model`, and the rules by its convolutions' names.

    `rules`: the layers to quantize, by their names in `model` (ptqsr.plan.rules); in the copy,
    linear layers and transposed convolutions among them are convolutions. Raises PtqsrError where
    an input, a weight or an activation is not usable, and names it.
    """
    network = copy.deepcopy(model).eval().requires_grad_(False)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise PtqsrError(f"layer {name.rpartition('.')[0]}: {name} holds NaN or Inf")
    names = as_convolutions(network, rules)
    rules = {names[name]: rule for name, rule in rules.items()}
    layers = convolutions(network, rules)
    first = next(iter(inputs))
    found = readings(network, layers, first, per_channel=method.per_channel, rules=rules)
    parts = dict(enumerate(found.parts))
    recipes = {rule: method(config, rule) for rule in dict.fromkeys(rules.values())}
    # The sightings of a part are all of one rule.
    recipe = {number: recipes[rules[part.sightings[0].layer]] for number, part in parts.items()}

    def counted(what: str, pictures: Collection[torch.Tensor] | Inputs) -> Iterator[torch.Tensor]:
        progress(what, 0, len(pictures))
        for done, x in enumerate(pictures, 1):
            yield x
            progress(what, done, len(pictures))

    ranges = collect(
        network, layers, parts, counted("ranges", inputs), lambda _, n: ChannelRanges(n)
    )
    whole = {number: part for number, part in parts.items() if recipe[number].rule.whole_range}
    if whole:
        pictures = counted("test cards", cards(first))
        collect(network, layers, whole, pictures, lambda number, _: ranges[number])
    details = {number: recipe[number].statistics(ranges[number]) for number in parts}
    wanted = {number: detail for number, detail in details.items() if detail is not None}
    if wanted:
        pictures = counted("distributions", inputs)
        seen = {number: parts[number] for number in wanted}
        collect(network, layers, seen, pictures, lambda number, _: wanted[number])
    quantizers = []
    for number in parts:
        progress("quantizers", number, len(parts))
        quantizer = recipe[number].quantizer(parts[number], ranges[number], details[number])
        quantizers.append(quantizer.to(inputs.device))
    progress("quantizers", len(parts), len(parts))
    joined: dict[tuple[int, ...], ActivationQuantizer] = {}
    for numbers in found.layers.values():
        if numbers not in joined:
            joined[numbers] = join([quantizers[number] for number in numbers])
    swaps: dict[torch.nn.Module, torch.nn.Module] = {}
    for name, conv in layers.items():
        weight = recipes[rules[name]].weight(conv.weight)
        swaps[conv] = FakeQuantConv2d(conv, joined[found.layers[name]], weight)
    replace(network, swaps)
    network.calibration = config
    return network.eval(), rules
