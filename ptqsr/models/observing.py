"""Hooks on layers, which always come off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def observing(
    layers: Mapping[str, nn.Module], observer: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """Call `observer(name, input)` whenever a layer runs."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        return lambda layer, inputs, named: observer(name, inputs[0] if inputs else named["input"])

    handles = [
        layer.register_forward_pre_hook(hook(name), with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
