"""What CADyQ learns by besides the picture: fewer bits, and the teacher's features (Eqs. 6-8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ptqsr.training.losses import structure

# What is compared: by layer, the maps [N, HW] of its outputs, call by call.
Maps = dict[str, list[torch.Tensor]]


def bit_loss(chosen: torch.Tensor, expected: torch.Tensor | None) -> torch.Tensor:
    """Return a layer's share of L_b (Eq. 6), or given the expected bits of L_wb (Eq. 7).

    Both [N]; the mean over samples, in bits for Eq. 6 and a ratio for Eq. 7, before it is
    multiplied by the layer's work: its multiply-accumulates over their mean.
    """
    return (chosen if expected is None else chosen / expected.detach()).mean()


def feature_transfer(ours: Maps, theirs: Maps) -> torch.Tensor:
    """Return L_kdf: the mean square between maps of one layer's outputs, then over layers."""
    losses = [
        (one - other).square().mean()
        for name in ours
        for one, other in zip(ours[name], theirs[name], strict=True)
    ]
    return torch.stack(losses).mean()


@contextmanager
def maps(layers: Mapping[str, nn.Module]) -> Iterator[Maps]:
    """Give, when the layers have run, the maps of what they gave."""
    found: Maps = {name: [] for name in layers}

    def take(name: str) -> Any:
        # Of a copy: what follows may change the output in place.
        return lambda layer, inputs, output: found[name].append(structure(output.clone()))

    handles = [layer.register_forward_hook(take(name)) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
