"""What is reconstructed at once, and what goes into it and comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import nn

from ptqsr.models import Lockstep, SRNetwork, matches

Tensors = Iterable[torch.Tensor]

# Numbers in all pictures, and pictures; of more, one is run at a time, from the start for every
# layer. Side by side every picture has a thread in either network.
TOGETHER, RUNS = 1 << 19, 64


class _Enough(Exception):
    """All has been seen: the rest of the network need not run."""


def units(network: SRNetwork, layers: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the modules to reconstruct, by name, each with the quantized layers in it.

    A layer belongs to the outermost module that the network's `block_patterns` name, or else is a
    unit of its own.
    """
    found: dict[str, list[str]] = {}
    for layer in layers:
        pieces = layer.split(".")
        owners = (".".join(pieces[:count]) for count in range(1, len(pieces)))
        unit = next((name for name in owners if matches(name, network.block_patterns)), layer)
        found.setdefault(unit, []).append(layer)
    return {unit: tuple(names) for unit, names in found.items()}


def calls(network: SRNetwork, names: Iterable[str], x: torch.Tensor) -> dict[str, int]:
    """Return how often each module runs for a picture, in the order of their first runs."""
    found: dict[str, int] = {}

    def count(name: str, *_: object) -> None:
        found[name] = found.get(name, 0) + 1

    with _watching({name: network.get_submodule(name) for name in names}, count):
        network(x)
    return found


def passing(
    network: SRNetwork, name: str, calls: int, x: torch.Tensor
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return what goes into a module and what comes out of it, at each of its calls for x."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def see(_: str, given: torch.Tensor, made: torch.Tensor) -> None:
        seen.append((given, made.clone()))
        if len(seen) == calls:
            raise _Enough

    with _watching({name: network.get_submodule(name)}, see), suppress(_Enough):
        network(x)
    return seen


def walk(
    network: SRNetwork, model: SRNetwork, times: Mapping[str, int], inputs: Tensors
) -> Iterator[tuple[str, Tensors, Tensors]]:
    """Yield every layer, in the order in which they run, with its inputs in both networks.

    Each is to be gone through once, both in step. A layer that the caller changes is the changed
    one for those after it.
    """

    def apart(name: str) -> tuple[str, Tensors, Tensors]:
        found = (_inputs(of, name, times[name], inputs) for of in (network, model))
        return name, next(found), next(found)

    sizes = [x.numel() for x in inputs]
    if len(sizes) > RUNS or sum(sizes) > TOGETHER:
        yield from map(apart, times)
        return
    with ExitStack() as stack:
        here, there = (
            stack.enter_context(Lockstep(of, {n: of.get_submodule(n) for n in times}, inputs))
            for of in (network, model)
        )
        seen: set[str] = set()
        for _ in range(sum(times.values())):
            (name, given), (_, meant) = here.advance(), there.advance()
            if times[name] == 1:
                yield name, given, meant
            elif name not in seen:
                # All of its calls count, and those to come are not known yet.
                yield apart(name)
            seen.add(name)


def _inputs(network: SRNetwork, name: str, calls: int, inputs: Tensors) -> Iterator[torch.Tensor]:
    """Yield all inputs of a layer, of which a picture has so many."""
    for x in inputs:
        yield from (given for given, _ in passing(network, name, calls, x))


@contextmanager
def _watching(
    modules: Mapping[str, nn.Module], see: Callable[[str, torch.Tensor, torch.Tensor], None]
) -> Iterator[None]:
    """Call see(name, input, output) whenever one of the modules has run."""
    given: dict[str, torch.Tensor] = {}

    def before(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def take(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            # A copy: what follows may change it in place.
            given[name] = (inputs[0] if inputs else named["input"]).clone()

        return take

    def after(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        return lambda _, __, made: see(name, given.pop(name), made)

    handles = []
    for name, module in modules.items():
        handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
        handles.append(module.register_forward_hook(after(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
