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
from ptqsr.methods.simulate import Progress, simulate
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


@torch.inference_mode(False)  # the result is changed in place, and may be trained
def calibrate(
    model: nn.Module,
    images: Image | Iterable[Image],
    config: Config | None = None,
    *,
    scale: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> SRNetwork:
    """Return a fake-quantized copy of `model`, in evaluation mode; `model` stays as it is.

    `model`: a network of ptqsr, or any module that enlarges float32 [N, 3, H, W] in [0, 1],
    `scale` times, or as it does where that is not given (for other ranges and luma:
    `ptqsr.models.wrap`). What can be quantized is found by running it; a warning names what cannot.

    `images` are network inputs, that is, low-resolution pictures: paths, a folder, arrays
    [H, W, C] or tensors [N, C, H, W] (uint8, or float in [0, 1]), or an iterable of them. They
    are gone through once, or twice where the method chooses points or percentiles, on the device
    that the network is on. Raises PtqsrError where an input, a weight or an activation is not
    usable, and names it.

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
    network, by_name = simulate(model, inputs, config, kind, wanted, progress=progress)
    original = copy.deepcopy(model).eval()
    as_convolutions(original, wanted)
    method = kind(config, config.body)
    if method.refines:
        refine(network, original, list(by_name), inputs, partial(progress, "weights"))
    learned = [name for name, rule in by_name.items() if not rule.whole_range]
    if options := method.reconstruction(learned):
        latents = method.latents(network, original, list(by_name))
        blocks = units(network, by_name)
        show = partial(progress, "blocks")
        records = reconstruct(network, original, blocks, latents, inputs, options, show)
        network.reconstruction = [asdict(record) for record in records]
    return network


def method_of(config: Config) -> type[Method]:
    """Return the method that is asked for; raises PtqsrError for one that there is not."""
    if config.method not in METHODS:
        raise PtqsrError(f"method {config.method!r} is unknown; choose {', '.join(METHODS)}")
    return METHODS[config.method]


def _name_what_cannot(model: SRNetwork) -> None:
    never = {name: place.why for name, place in model.places().items() if place.part == "never"}
    cannot = [f"{name} ({why})" for name, why in never.items() if why != IDLE]
    if cannot:
        more = f" and {len(cannot) - SHOWN} more" if len(cannot) > SHOWN else ""
        log.warning(
            "what cannot be quantized stays in floating point: %s%s",
            ", ".join(cannot[:SHOWN]),
            more,
        )
