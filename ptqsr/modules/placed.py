"""Quantizers in other places than in front of convolutions, as PAMS has them (its Fig. 1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ptqsr.quantizers import ActivationQuantizer

PLACES = ("input", "output")
# What they hold they run, or never run themselves.
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def place(module: nn.Module, where: str, quantizer: nn.Module) -> None:
    """Quantize what a module is given ("input") or gives ("output"), instead of what did before."""
    if where not in PLACES or isinstance(module, (*CONTAINERS, ActivationQuantizer)):
        raise ValueError(f"no place for a quantizer: {where!r} of a {type(module).__name__}")
    name = f"{where}_quantizer"
    if not hasattr(module, name):
        # Functions, not closures: a copy of the module finds the copy of the quantizer.
        if where == "input":
            module.register_forward_pre_hook(_quantize_input)
        else:
            module.register_forward_hook(_quantize_output)
    setattr(module, name, quantizer)


def placed(network: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Give (name of a module, "input" or "output", quantizer) of all that `place` put there."""
    for name, module in network.named_modules():
        for where in PLACES:
            quantizer = module._modules.get(f"{where}_quantizer")
            if quantizer is not None:
                yield name, where, quantizer


def _quantize_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (module.get_submodule("input_quantizer")(inputs[0]), *inputs[1:])


def _quantize_output(
    module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor
) -> torch.Tensor:
    return module.get_submodule("output_quantizer")(output)
