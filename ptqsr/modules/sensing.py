"""How quantizers that choose their bits by the picture get to see it."""

from __future__ import annotations

from types import MethodType

import torch

from ptqsr.models import SRNetwork
from ptqsr.quantizers import PatchGradient


def sense(network: SRNetwork) -> None:
    """Let a network show its pictures to all of its modules that have a `gradient`, in place.

    They see what `features` is given, before that runs. Another call replaces what the first did;
    a copy of the network shows its pictures to the copies.
    """
    gradient = PatchGradient()
    network.add_module("patch_gradient", gradient)
    for module in list(network.modules()):
        if isinstance(module._modules.get("gradient"), PatchGradient):
            module.add_module("gradient", gradient)
    # Of the instance: no hook, since hooks run with `forward` and not with its halves.
    network.features = MethodType(_features, network)  # type: ignore[method-assign]


def blind(network: SRNetwork) -> None:
    """Take back what `sense` did, in place: whoever runs the network sees to what it chooses."""
    network.__dict__.pop("features", None)


def _features(network: SRNetwork, x: torch.Tensor) -> torch.Tensor:
    gradient = network.get_submodule("patch_gradient")
    assert isinstance(gradient, PatchGradient)
    gradient.look(x)
    return type(network).features(network, x)
