"""Calibration: a float network and pictures in, a fake-quantized network out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict
from functools import partial

import torch

from ptqsr.calibration import ChannelRanges, Image, Inputs, cards, collect, readings
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.methods.base import Method
from ptqsr.methods.brecq import BRECQ, QDrop
from ptqsr.methods.dfsq import DFSQ, DFSQPlus
from ptqsr.methods.reconstruct import reconstruct
from ptqsr.methods.refine import refine
from ptqsr.methods.samples import Pictures, divide
from ptqsr.methods.uniform import MinMax, Percentile
from ptqsr.methods.units import units
from ptqsr.models import SRNetwork, check_network
from ptqsr.modules import FakeQuantConv2d, in_body, quantizable, replace
from ptqsr.quantizers import ActivationQuantizer, join

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (DFSQ, DFSQPlus, BRECQ, QDrop, MinMax, Percentile)
}

# Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]

log = logging.getLogger("ptqsr")


def learns(config: Config) -> bool:
    """Return whether the method ends with block reconstruction, which takes held-out pictures."""
    method = METHODS.get(config.method)
    return method is not None and method(config, config.body).reconstruction(()) is not None


@torch.inference_mode(False)  # the result is changed in place, and may be trained
def calibrate(
    model: SRNetwork,
    images: Image | Iterable[Image],
    config: Config | None = None,
    *,
    held_out: Image | Iterable[Image] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> SRNetwork:
    """Return a fake-quantized copy of `model`, in evaluation mode; `model` stays as it is.

    `images` are network inputs, that is, low-resolution pictures: paths, a folder, arrays
    [H, W, C] or tensors [N, C, H, W] (uint8, or float in [0, 1]), or an iterable of them. They
    are gone through once for ranges and once more for points, percentiles or best ranges, on the
    device that the network is on; by dfsq+ three times more, or twice a layer where they are many
    (methods.units) or the layer runs several times; by block reconstruction twice a block.

    `held_out`, of the same kinds: by these pictures, from which nothing else follows, block
    reconstruction measures and stops. By default one in four of `images`, which should not overlap
    then: ranges and points follow from all of `images`, weights from the other three.

    Raises PtqsrError where an input, a weight or an activation is not usable, and names it, where
    pictures are held out for a method that does not reconstruct, and where it has but one picture.
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
    body = [name for name in layers if rules[name] == config.body]
    options = method.reconstruction(body)
    learned, apart = _divided(inputs, held_out, network, config) if options else (inputs, ())
    if held_out is not None and not options:
        raise PtqsrError(f"held_out: {config.method} reconstructs no blocks here; leave it out")
    first = next(iter(inputs))
    found = readings(network, layers, first, per_channel=method.per_channel, rules=rules)
    parts = dict(enumerate(found.parts))
    recipes = {rule: METHODS[config.method](config, rule) for rule in dict.fromkeys(rules.values())}
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
    replace(
        network,
        {
            conv: FakeQuantConv2d(
                conv, joined[found.layers[name]], recipes[rules[name]].weight(conv.weight)
            )
            for name, conv in layers.items()
        },
    )
    if method.refines or options:
        original = copy.deepcopy(model).eval()
    if method.refines:
        refine(network, original, list(layers), learned, partial(progress, "weights"))
    if options:
        latents = method.latents(network, original, list(layers))
        show = partial(progress, "blocks")
        records = reconstruct(
            network, original, units(network, layers), latents, learned, apart, options, show
        )
        network.reconstruction = [asdict(record) for record in records]
    network.calibration = config
    return network.eval()


def _divided(
    inputs: Inputs, held_out: Image | Iterable[Image] | None, network: SRNetwork, config: Config
) -> tuple[Pictures, Pictures]:
    """Return the pictures to reconstruct from, and those to measure on."""
    if held_out is None:
        return divide(inputs, config.seed)
    apart = Pictures(Inputs(held_out, network, "held-out"))
    for _ in apart:
        pass  # what is wrong with one shows now, not after minutes
    return Pictures(inputs), apart
