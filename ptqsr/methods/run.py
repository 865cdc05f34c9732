"""Calibration: a float network and pictures in, a fake-quantized network out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial

import torch
from torch import nn

from ptqsr.calibration import Image, Inputs
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.methods.base import Method
from ptqsr.methods.brecq import BRECQ, QDrop
from ptqsr.methods.dfsq import DFSQ, DFSQPlus
from ptqsr.methods.reconstruct import reconstruct
from ptqsr.methods.refine import refine
from ptqsr.methods.samples import Pictures, divide
from ptqsr.methods.simulate import Gather, Progress, simulate
from ptqsr.methods.uniform import MinMax, Percentile
from ptqsr.methods.units import units
from ptqsr.models import SRNetwork, wrap
from ptqsr.models.flow import IDLE
from ptqsr.modules import as_convolutions
from ptqsr.plan import rules

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (DFSQ, DFSQPlus, BRECQ, QDrop, MinMax, Percentile)
}
SHOWN = 3  # layers that a warning names

log = logging.getLogger("ptqsr")


def learns(config: Config) -> bool:
    """Return whether the method ends with block reconstruction, which takes held-out pictures."""
    method = METHODS.get(config.method)
    return method is not None and method(config, config.body).reconstruction(()) is not None


@torch.inference_mode(False)  # the result is changed in place, and may be trained
def calibrate(
    model: nn.Module,
    images: Image | Iterable[Image],
    config: Config | None = None,
    *,
    held_out: Image | Iterable[Image] | None = None,
    scale: int | None = None,
    progress: Progress = lambda what, done, total: None,
    gather: Gather | None = None,
) -> SRNetwork:
    """Return a fake-quantized copy of `model`, in evaluation mode; `model` stays as it is.

    `model`: a network of ptqsr, or any module that enlarges float32 [N, 3, H, W] in [0, 1],
    `scale` times, or as it does where that is not given (for other ranges and luma:
    `ptqsr.models.wrap`). What can be quantized is found by running it; a warning names what cannot.

    `images` are network inputs, that is, low-resolution pictures: paths, a folder, arrays
    [H, W, C] or tensors [N, C, H, W] (uint8, or float in [0, 1]), or an iterable of them. They
    are gone through once for ranges and once more for points, percentiles or best ranges, on the
    device that the network is on; by dfsq+ three times more, or twice a layer where they are many
    (methods.units) or the layer runs several times; by block reconstruction twice a block.

    `held_out`, of the same kinds: by these pictures, from which nothing else follows, block
    reconstruction measures and stops. By default one in four of `images`, which should not overlap
    then: ranges and points follow from all of `images`, weights from the other three. `gather` may
    take the pictures to other machines (ptqsr.cluster) for ranges, points and percentiles, which
    are the same bits; weights are chosen here.

    Raises PtqsrError where an input, a weight or an activation is not usable, and names it, where
    pictures are held out for a method that does not reconstruct, and where it has but one picture.
    Where blocks were reconstructed, `reconstruction` of what is returned says what became of each.
    """
    config = config or Config()
    if not isinstance(model, SRNetwork):
        model = wrap(model, scale=scale)
    elif scale not in (None, model.scale):
        raise PtqsrError(f"scale is {scale}; the network's is {model.scale}")
    kind = method_of(config)
    wanted = rules(model, config)
    body = [rule for rule in wanted.values() if not rule.whole_range]
    for notice in dict.fromkeys(kind(config, rule).notice() for rule in body or [config.body]):
        if notice:
            log.warning(notice)
    _name_what_cannot(model)
    inputs = Inputs(images, model)
    method = kind(config, config.body)
    learning = learns(config)
    if held_out is not None and not learning:
        raise PtqsrError(f"held_out: {config.method} reconstructs no blocks here; leave it out")
    learned, apart = (
        _divided(inputs, held_out, model, config) if learning else (inputs, Pictures(()))
    )
    network, by_name = simulate(
        model, inputs, config, kind, wanted, progress=progress, gather=gather
    )
    if not (method.refines or learning):
        return network
    original = copy.deepcopy(model).eval()
    as_convolutions(original, wanted)
    if method.refines:
        refine(network, original, list(by_name), learned, partial(progress, "weights"))
    if options := method.reconstruction([n for n, rule in by_name.items() if not rule.whole_range]):
        latents = method.latents(network, original, list(by_name))
        show = partial(progress, "blocks")
        records = reconstruct(
            network, original, units(network, by_name), latents, learned, apart, options, show
        )
        network.reconstruction = [asdict(record) for record in records]
    return network


def method_of(config: Config) -> type[Method]:
    """Return the method that is asked for; raises PtqsrError for one that there is not."""
    if config.method not in METHODS:
        raise PtqsrError(f"method {config.method!r} is unknown; choose {', '.join(METHODS)}")
    return METHODS[config.method]


def _name_what_cannot(model: SRNetwork) -> None:
    never = {name: place.why for name, place in model.places().items() if place.part == "never"}
    cannot = [f"{name or 'the network'} ({why})" for name, why in never.items() if why != IDLE]
    if cannot:
        more = f" and {len(cannot) - SHOWN} more" if len(cannot) > SHOWN else ""
        log.warning(
            "what cannot be quantized stays in floating point: %s%s",
            ", ".join(cannot[:SHOWN]),
            more,
        )


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
