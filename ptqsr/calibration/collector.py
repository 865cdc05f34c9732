"""Watching the tensors that quantized convolutions read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from ptqsr.calibration.statistics import Statistics
from ptqsr.errors import PtqsrError
from ptqsr.models import SRNetwork

S = TypeVar("S", bound=Statistics)
Observer = Callable[[str, torch.Tensor], None]


@contextmanager
def observing(layers: Mapping[str, nn.Conv2d], observer: Observer) -> Iterator[None]:
    """Call `observer(name, input)` whenever a layer runs; the hooks always come off."""

    def hook(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        return lambda layer, inputs: observer(name, inputs[0])

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode(False)  # tensors of that mode have no version
@torch.no_grad()
def readers(network: SRNetwork, layers: Mapping[str, nn.Conv2d], x: torch.Tensor) -> dict[str, str]:
    """Return, for every layer, the first layer that reads the same tensors as it (or itself).

    Such layers share one quantizer, so that the tensor is measured and encoded once. Raises
    PtqsrError for a layer that does not run.
    """
    serial = itertools.count()
    tensors = WeakTensorKeyDictionary()
    read: dict[str, list[tuple[int, int]]] = {name: [] for name in layers}

    def note(name: str, tensor: torch.Tensor) -> None:
        number = tensors.setdefault(tensor, next(serial))
        # An in-place operation makes another tensor of it, hence the version.
        read[name].append((number, tensor._version))

    with observing(layers, note):
        network(x)
    for name, calls in read.items():
        if not calls:
            raise PtqsrError(f"layer {name}: the network never runs it; exclude it")
    first: dict[tuple[tuple[int, int], ...], str] = {}
    return {name: first.setdefault(tuple(calls), name) for name, calls in read.items()}


@torch.inference_mode(False)  # tensors of that mode have no version
@torch.no_grad()
def collect(
    network: SRNetwork,
    layers: Mapping[str, nn.Conv2d],
    inputs: Iterable[torch.Tensor],
    make: Callable[[str, int], S],
) -> dict[str, S]:
    """Run the network over the inputs; return each layer's statistics of what it read.

    `make(name, channels)` gives the empty statistics. Raises PtqsrError for NaN or Inf.
    """
    statistics: dict[str, S] = {}

    def take(name: str, tensor: torch.Tensor) -> None:
        if not torch.isfinite(tensor).all():
            raise PtqsrError(
                f"layer {name}: its input holds NaN or Inf; check the weights and the value "
                "range of the pictures"
            )
        if name not in statistics:
            statistics[name] = make(name, tensor.shape[1])
        statistics[name].update(tensor)

    with observing(layers, take):
        for number, x in enumerate(inputs):
            network.check_output(x, network(x), f"calibration picture {number}")
    return statistics
