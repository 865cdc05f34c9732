"""How far the results of static convolutions reach, channel by channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptqsr.calibration import Inputs, cards
from ptqsr.exporting.portable import is_static
from ptqsr.exporting.results import Range
from ptqsr.images import cut, downscale
from ptqsr.models import SRNetwork
from ptqsr.modules import in_body, owner

# What pictures that were not measured may exceed the measured ones by.
MARGIN = 1.25
CROPS, CROP_SIZE = 32, 48


def crops(network: SRNetwork, paths: list[Path]) -> list[np.ndarray]:
    """Return network inputs of high-resolution pictures, as `ptqsr calibrate` by default."""
    size = CROP_SIZE * network.scale
    pictures, _ = cut(paths, size=size, count=CROPS, held_out=0, seed=0)
    return [downscale(picture, network.scale)[0] for picture in pictures]


def result_ranges(network: SRNetwork, pictures: Iterable[Any]) -> dict[str, Range]:
    """Return by layer MARGIN times what each channel of its results reaches, and 0.

    Of all static layers, over the pictures (as `calibrate` takes them); layers outside of the body
    (`edges`) are to hold the test cards, too. The network stays as it is.
    """
    layers = {name: module for name, module in network.named_modules() if is_static(module)}
    if not layers:
        return {}
    include = network.calibration.include if network.calibration else ()
    edges = {name for name in layers if not in_body(network, owner(network, name), include)}
    lows: dict[str, torch.Tensor] = {}
    highs: dict[str, torch.Tensor] = {}
    measured = set(layers)

    def hook(name: str) -> Callable[[Any, Any, torch.Tensor], None]:
        def look(module: Any, inputs: Any, result: torch.Tensor) -> None:
            if name in measured:
                low, high = result.amin((0, 2, 3)), result.amax((0, 2, 3))
                lows[name] = torch.minimum(lows.get(name, low).clamp(max=0), low)
                highs[name] = torch.maximum(highs.get(name, high).clamp(min=0), high)

        return look

    handles = [module.register_forward_hook(hook(name)) for name, module in layers.items()]
    try:
        with torch.inference_mode():
            for x in Inputs(list(pictures), network):
                network(x)
            measured = edges
            for card in cards(x) if edges else ():
                network(card)
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: Range(*(part[name].double().cpu().numpy() * MARGIN for part in (lows, highs)))
        for name in lows
    }
