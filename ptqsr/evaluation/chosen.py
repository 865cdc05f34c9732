"""Which bits a network chose that chooses them sample by sample (CADyQ)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from torch import nn

from ptqsr.quantizers import Chooser, SelectedQuantizer, choosers

# By layer, the bits of its input: of every sample, in the order in which they ran.
ChosenBits = dict[str, list[int]]
# Names of networks that hold the one whose layers are meant.
HOLDERS = ("network.", "store.")


@contextmanager
def recording_bits(network: nn.Module) -> Iterator[ChosenBits]:
    """Give what the layers choose from here on, of a network, simulated or deployed.

    It is empty for a network whose layers choose nothing. Layers have their names in the simulated
    network, also where another one runs that by patches. A layer that runs twice chooses twice.
    """
    layers = choosers(network)
    found: ChosenBits = {_own_name(name): [] for name in layers}

    def take(name: str) -> Callable[[Any, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            quantizer = layer.get_submodule("quantizer")
            assert isinstance(quantizer, SelectedQuantizer)
            made = output[-1] if isinstance(layer, Chooser) else output
            if made.device.type == "meta":
                return  # a sketch of the network chooses nothing
            numbers = made.tolist() if isinstance(layer, Chooser) else quantizer.numbers
            found[_own_name(name)] += [quantizer.candidates[number] for number in numbers]

        return hook

    handles = [layer.register_forward_hook(take(name)) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def mean_bits(chosen: Mapping[str, list[int]]) -> dict[str, float]:
    """Return the mean of every layer's bits, where it ran."""
    return {name: fmean(bits) for name, bits in chosen.items() if bits}


def fewest_and_most(network: nn.Module) -> tuple[int, int]:
    """Return the fewest bits and the most that a network chooses from; some layer chooses."""
    quantizers = (m for m in network.modules() if isinstance(m, SelectedQuantizer))
    bits = [bits for quantizer in quantizers for bits in quantizer.candidates]
    return min(bits), max(bits)


def _own_name(name: str) -> str:
    for holder in HOLDERS:
        name = name.removeprefix(holder)
    return name
