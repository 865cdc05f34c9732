"""How often the layers of a network multiply and add for a picture."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import nn

from ptqsr.errors import is_out_of_memory, one_line
from ptqsr.models import SRNetwork, device_of, evaluating, sketch
from ptqsr.models.flow import HEIGHT, LAYERS, WIDTH

log = logging.getLogger("ptqsr")


def macs(network: SRNetwork, height: int, width: int) -> dict[str, int]:
    """Return the multiply-accumulates of every layer that runs, for an input of that size.

    By layers' names, over all calls. Only shapes are computed, on PyTorch's meta device. A network
    that does not run without values is run on a small picture, and counted by area: a warning says
    so.
    """
    try:
        return _counted(sketch(network), height, width)
    except Exception as error:  # of the user's own code
        if is_out_of_memory(error):
            raise
        log.warning(
            "%s: multiply-accumulates are those of %dx%d pixels by area, since it does not run "
            "without values (%s)",
            *(network.title, WIDTH, HEIGHT, one_line(f"{type(error).__name__}: {error}")),
        )
    found = _counted(copy.deepcopy(network), HEIGHT, WIDTH)
    return {name: work * height * width // (HEIGHT * WIDTH) for name, work in found.items()}


def _counted(network: SRNetwork, height: int, width: int) -> dict[str, int]:
    """Count as a network runs, which is given up to it."""
    found: dict[str, int] = {}

    def count(
        layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: torch.Tensor
    ) -> None:
        assert isinstance(layer, LAYERS)
        x = inputs[0] if inputs else named["input"]
        once = x if isinstance(layer, nn.ConvTranspose2d) else output
        work = once.numel() * layer.weight.shape[1:].numel()
        found[names[layer]] = found.get(names[layer], 0) + work

    names = {layer: name for name, layer in network.named_modules() if isinstance(layer, LAYERS)}
    for layer in names:
        layer.register_forward_hook(count, with_kwargs=True)
    device = device_of(network)
    channels = 1 if network.colours == "y" else 3
    x = torch.full((1, channels, height, width), 0.5, device=device)
    with torch.no_grad(), torch.device(device), evaluating(network):
        network(x)
    return found
