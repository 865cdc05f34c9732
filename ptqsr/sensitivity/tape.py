"""A float network run many times on the same pictures, each time with one layer exchanged."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ptqsr.models import SRNetwork, evaluating


class Tape:
    """Keeps what the convolutions of a network give for x, so that none runs again in vain.

    With a layer exchanged, those that run before it give what they gave: half of the work of a
    deep network. `layers`: the names of those that will be exchanged; what runs after the first
    call of the last of these is not kept. x: [N, C, H, W]; `output` is that of the network itself,
    but for rounding. Whatever else the network does runs again each time, so that it may do
    anything that is the same every time: share layers, work in place, branch.
    """

    def __init__(self, network: SRNetwork, x: torch.Tensor, layers: Iterable[str]) -> None:
        # In channels_last, as benchmarks run floats: 1.2 times as fast.
        self.network = copy.deepcopy(network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.x = x.contiguous(memory_format=torch.channels_last)
        # By call: what it gave, and the number of the next call after it.
        self._kept: dict[int, tuple[torch.Tensor, int]] = {}
        self._first: dict[nn.Module, int] = {}
        self._calls = 0
        self._exchanged: tuple[nn.Module, nn.Module] | None = None
        for module in self.network.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                # Of the instance, as nn.Module.__call__ looks it up.
                call = partial(self._call, module, module.forward)
                module.forward = call  # type: ignore[method-assign]
        self.output = self._run()
        exchanged = map(self.network.get_submodule, layers)
        last = max(
            (self._first[module] for module in exchanged if module in self._first), default=0
        )
        self._kept = {call: kept for call, kept in self._kept.items() if kept[1] <= last}

    def with_layer(self, name: str, layer: nn.Module) -> torch.Tensor:
        """Return the output for x with the layer of that name exchanged."""
        old = self.network.get_submodule(name)
        if old not in self._first:
            return self.output  # it does not run on x
        with self._exchange(old, layer):
            return self._run()

    @torch.no_grad()
    def _run(self) -> torch.Tensor:
        self._calls = 0
        with evaluating(self.network):
            output: torch.Tensor = self.network(self.x)
            return output

    @contextmanager
    def _exchange(self, old: nn.Module, new: nn.Module) -> Iterator[None]:
        self._exchanged = (old, new)
        try:
            yield
        finally:
            self._exchanged = None

    def _call(
        self, module: nn.Module, forward: Callable[..., Any], *inputs: Any, **named: Any
    ) -> Any:
        call, self._calls = self._calls, self._calls + 1
        if self._exchanged is None:
            self._first.setdefault(module, call)
            y = forward(*inputs, **named)
            if isinstance(y, torch.Tensor):
                # A copy: what comes after may work in place.
                self._kept[call] = (y.clone(), self._calls)
            return y
        old, new = self._exchanged
        kept, after = self._kept.get(call, (None, 0))
        # Not where the exchanged layer runs inside of this one.
        if kept is not None and after <= self._first[old]:
            self._calls = after
            return kept.clone()
        if module is old:
            return new(inputs[0] if inputs else named["input"])
        return forward(*inputs, **named)
