"""Small networks of every architecture whose output is worth comparing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from helpers import photograph
from torch import nn

from ptqsr import models
from ptqsr.images import luma, to_tensor
from ptqsr.models import SRNetwork

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "edsr": ("edsr", dict(blocks=2, width=16)),
    "rdn": ("rdn", dict(blocks=1, layers=2, growth=8, width=16)),
    "srresnet": ("srresnet", dict(blocks=1, width=16)),
    "carn": ("carn", dict(width=16)),
    "carn_m": ("carn_m", dict(width=16)),
    "idn": ("idn", dict(width=16)),
    "idn_y": ("idn", dict(width=16, colours="y")),
    "imdn": ("imdn", dict(blocks=1, width=16)),
}


def lively(variant: str, scale: int) -> SRNetwork:
    """A variant with random weights, always the same, whose output spreads over the grey levels.

    As they are initialised, deep networks make almost nothing of a picture: no tile would matter.
    """
    architecture, hyperparameters = VARIANTS[variant]
    torch.manual_seed(0)
    network = models.build(architecture, scale=scale, weights=None, **hyperparameters)
    network.requires_grad_(False)
    order: list[Any] = []

    def level(layer: Any, _: Any, output: torch.Tensor) -> torch.Tensor | None:
        """Let what a layer makes spread by 1, the first time that it runs."""
        if layer in order:
            return None
        order.append(layer)
        spread = output.std()
        layer.weight /= spread
        if layer.bias is not None:
            layer.bias /= spread
        return output / spread

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    layers = [m for m in network.modules() if isinstance(m, kinds) and max(m.kernel_size) > 1]
    hooks = [layer.register_forward_hook(level) for layer in layers]
    x = given(network, photograph(40, 48, 7))
    network(x)
    for hook in hooks:
        hook.remove()
    # To the last layer the picture is linear.
    last = order[-1]
    if last.bias is not None:
        last.bias.zero_()
    whole, weight = network(x), last.weight.clone()
    last.weight.zero_()
    last.weight.copy_(weight * 0.2 / (whole - network(x)).std())
    return network


def given(network: SRNetwork, image: np.ndarray) -> torch.Tensor:
    """What a network sees of a picture."""
    x = to_tensor(image)
    return luma(x * 255) / 255 if network.colours == "y" else x


def levels_apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """By how many grey levels two pictures differ."""
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return np.abs(a.astype(int) - b.astype(int))
