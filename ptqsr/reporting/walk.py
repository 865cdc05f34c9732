"""A float network and its quantized one on the same picture, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ptqsr.models import evaluating
from ptqsr.modules import FakeQuantConv2d
from ptqsr.reporting.subject import Subject


@dataclass(frozen=True, eq=False)
class Meeting:
    """One call of a layer in both networks, [N, C, H, W] each.

    `meant` and `gave`: input and output in the float network; `came`, `read` and `made`: input,
    quantized input and output in the quantized one.
    """

    name: str
    layer: FakeQuantConv2d
    meant: torch.Tensor
    gave: torch.Tensor
    came: torch.Tensor
    read: torch.Tensor
    made: torch.Tensor


@torch.no_grad()
def walk(subject: Subject, x: torch.Tensor, observer: Callable[[Meeting], None]) -> None:
    """Run both networks on x; show `observer` every call of the quantized layers, in order.

    What the float network's layers read and give is in memory meanwhile.
    """
    layers = {name: subject.fake(name) for name in subject.layers}
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in layers}
    with ExitStack() as hooks, evaluating(subject.counterpart):
        for name in layers:

            def keep(_: Any, x: torch.Tensor, y: torch.Tensor, name: str = name) -> None:
                # Copies: what comes after may work in place.
                seen[name].append((x.clone(), y.clone()))

            _hook(hooks, subject.original(name), keep)
        subject.counterpart(x)
    latest: dict[nn.Module, torch.Tensor] = {}
    with ExitStack() as hooks, evaluating(subject.quantized):
        for quantizer in {layer.quantizer for layer in layers.values()}:
            # Layers share quantizers; each asks its own right before it convolves.
            _hook(hooks, quantizer, lambda module, x, y: latest.update({module: y}))
        for name, layer in layers.items():

            def meet(
                module: FakeQuantConv2d, x: torch.Tensor, y: torch.Tensor, name: str = name
            ) -> None:
                meant, gave = seen[name].pop(0)
                observer(Meeting(name, module, meant, gave, x, latest.pop(module.quantizer), y))

            _hook(hooks, layer, meet)
        subject.quantized(x)


def _hook(hooks: ExitStack, module: nn.Module, function: Callable[..., None]) -> None:
    """Call function(module, input, output) whenever a module has run."""

    def after(module: nn.Module, inputs: Any, named: dict[str, Any], output: torch.Tensor) -> None:
        function(module, inputs[0] if inputs else named["input"], output)

    hooks.callback(module.register_forward_hook(after, with_kwargs=True).remove)
