"""Calibration: a float network and pictures in, a fake-quantized network out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial

import torch

from ptqsr.calibration import (
    ChannelRanges,
    Gather,
    Image,
    Inputs,
    cards,
    collect,
    gather,
    readings,
)
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.methods.base import Method
from ptqsr.methods.brecq import BRECQ, QDrop
from ptqsr.methods.dfsq import DFSQ, DFSQPlus
from ptqsr.methods.reconstruct import reconstruct
from ptqsr.methods.refine import refine
from ptqsr.methods.uniform import MinMax, Percentile
from ptqsr.methods.units import units
from ptqsr.models import SRNetwork, check_network
from ptqsr.modules import FakeQuantConv2d, in_body, quantizable, replace
from ptqsr.quantizers import ActivationQuantizer, QuantizedWeight, join

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (DFSQ, DFSQPlus, BRECQ, QDrop, MinMax, Percentile)
}

# Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]

log = logging.getLogger("ptqsr")


@torch.inference_mode(False)  # the result is changed in place, and may be trained
def calibrate(
    model: SRNetwork,
    images: Image | Iterable[Image],
    config: Config | None = None,
    *,
    progress: Progress = lambda what, done, total: None,
    gather: Gather = gather,
) -> SRNetwork:
    """Return a fake-quantized copy of `model`, in evaluation mode; `model` stays as it is.

    `images` are network inputs, that is, low-resolution pictures: paths, a folder, arrays
    [H, W, C] or tensors [N, C, H, W] (uint8, or float in [0, 1]), or an iterable of them. They
    are gone through once, or twice where the method chooses points or percentiles, on the device
    that the network is on; `gather` may take the pictures elsewhere for these statistics
    (ptqsr.cluster), which add up to the same bits. Raises PtqsrError where an input, a weight or an
    activation is not usable, and names it.

    Where blocks were reconstructed, `reconstruction` of what is returned says what became of each.
    """
    config = config or Config()
    check_network(model)
    if config.method not in METHODS:
        raise PtqsrError(f"method {config.method!r} is unknown; choose {', '.join(METHODS)}")
    method = METHODS[config.method](config, config.body)
    if notice := method.notice():
        log.warning(notice)
    network = copy.deepcopy(model).eval().requires_grad_(False)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    layers = quantizable(network, config.include, config.exclude, edges=config.edges is not None)
    for name, conv in layers.items():
        if isinstance(conv, FakeQuantConv2d):
            raise PtqsrError(f"layer {name}: is quantized already; calibrate the float network")
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise PtqsrError(f"layer {name.rpartition('.')[0]}: {name} holds NaN or Inf")
    inputs = Inputs(images, network)
    rules = {
        name: config.body if in_body(network, name, config.include) else config.edge
        for name in layers
    }
    first = next(iter(inputs))
    found = readings(network, layers, first, per_channel=method.per_channel, rules=rules)
    parts = dict(enumerate(found.parts))
    recipes = {rule: METHODS[config.method](config, rule) for rule in dict.fromkeys(rules.values())}
    # The sightings of a part are all of one rule.
    recipe = {number: recipes[rules[part.sightings[0].layer]] for number, part in parts.items()}

    ranges = gather(
        network, layers, parts, inputs, lambda _, n: ChannelRanges(n), partial(progress, "ranges")
    )
    whole = {number: part for number, part in parts.items() if recipe[number].rule.whole_range}
    if whole:
        for number, reached in collect(
            network, layers, whole, cards(first), lambda _, n: ChannelRanges(n)
        ).items():
            ranges[number].add(reached)
    details = {number: recipe[number].statistics(ranges[number]) for number in parts}
    wanted = {number: detail for number, detail in details.items() if detail is not None}
    if wanted:
        seen = {number: parts[number] for number in wanted}
        show = partial(progress, "distributions")
        details |= gather(network, layers, seen, inputs, lambda n, _: wanted[n], show)
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
    replace(
        network,
        {
            conv: FakeQuantConv2d(
                conv,
                joined[found.layers[name]],
                QuantizedWeight.from_float(conv.weight, rules[name].weight_bits),
            )
            for name, conv in layers.items()
        },
    )
    original = copy.deepcopy(model).eval()
    if method.refines:
        refine(network, original, list(layers), inputs, partial(progress, "weights"))
    body = [name for name in layers if rules[name] == config.body]
    if options := method.reconstruction(body):
        latents = method.latents(network, original, list(layers))
        blocks = units(network, layers)
        show = partial(progress, "blocks")
        records = reconstruct(network, original, blocks, latents, inputs, options, show)
        network.reconstruction = [asdict(record) for record in records]
    network.calibration = config
    return network.eval()
