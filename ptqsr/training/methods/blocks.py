"""PAMS' own placement: block input (the shortcut takes it too), after ReLU, end of the branch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.models import SRNetwork, observing
from ptqsr.modules import place, placed
from ptqsr.training.trainable import TrainableQuantizer, layers_of


def place_in_blocks(
    network: SRNetwork,
    teacher: SRNetwork,
    x: torch.Tensor,
    make: Callable[[], TrainableQuantizer],
) -> None:
    """Put two quantizers into every residual block that has trainable convolutions, in place.

    The third, after the ReLU, is that of the block's second convolution. A convolution that reads
    the block's input takes it as it is, quantized; `x`: an input of the network.
    """
    layers = layers_of(network)
    blocks = blocks_of(network, layers)
    inputs = {block: make().to(x.device) for block in blocks}
    for block, end in blocks.items():
        place(network.get_submodule(block), "input", inputs[block])
        place(network.get_submodule(end), "output", make().to(x.device))
    for name, block in _readers(teacher, blocks, list(layers), x).items():
        layers[name].read_quantized(inputs[block])


def blocks_of(network: SRNetwork, names: Iterable[str]) -> dict[str, str]:
    """Return the residual blocks with any of the layers, and what ends their branches.

    Raises PtqsrError where there are none.
    """
    names = list(names)
    blocks = {
        block: end
        for block, end in network.residual_blocks().items()
        if any(name.startswith(f"{block}.") for name in names)
    }
    if not blocks:
        raise PtqsrError(
            f"placement paper: {network.title} has no residual blocks as PAMS quantizes "
            "them; use --placement deployable"
        )
    return blocks


@torch.no_grad()
def observe_blocks(
    teacher: SRNetwork,
    network: nn.Module,
    inputs: Iterable[torch.Tensor],
    run: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Show the placed quantizers what is there in the float network, of which `run` runs enough."""
    with ExitStack() as hooks:
        for name, where, quantizer in placed(network):
            handle = _watch(teacher.get_submodule(name), where, quantizer)
            hooks.callback(handle.remove)
        for x in inputs:
            run(x)


def _watch(module: nn.Module, where: str, quantizer: nn.Module) -> Any:
    assert isinstance(quantizer, TrainableQuantizer)
    if where == "input":
        return module.register_forward_pre_hook(lambda _, given: quantizer.observe(given[0]))
    return module.register_forward_hook(lambda _, given, output: quantizer.observe(output))


@torch.no_grad()
def _readers(
    teacher: SRNetwork, blocks: Mapping[str, str], names: list[str], x: torch.Tensor
) -> dict[str, str]:
    """Return the convolutions that read the very input of the block they are in, and that block."""
    found: dict[str, str] = {}
    inputs: dict[str, torch.Tensor] = {}

    def see(name: str, tensor: torch.Tensor) -> None:
        if name in blocks:
            inputs[name] = tensor
            return
        found.update((name, block) for block, seen in inputs.items() if seen is tensor)

    watched = {name: teacher.get_submodule(name) for name in (*blocks, *names)}
    with observing(watched, see):
        teacher(x)
    return {name: block for name, block in found.items() if name.startswith(f"{block}.")}
