"""Hooks on layers, which always come off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def observing(
    layers: Mapping[str, nn.Module], observer: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """Call `observer(name, input)` whenever a layer runs."""

    def hook(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        return lambda layer, inputs: observer(name, inputs[0])

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
