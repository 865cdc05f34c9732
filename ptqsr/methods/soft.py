"""A block of a fake-quantized network while its rounding is learned."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d, replace
from ptqsr.quantizers import (
    LearnedStep,
    QuantizedWeight,
    Rounding,
    SoftRounding,
    StraightThrough,
    UniformQuantizer,
)

# Of a tensor, which of its values are not quantized now: bool, the same shape.
Drop = Callable[[torch.Tensor], torch.Tensor]


class SoftConv2d(nn.Module):
    """A FakeQuantConv2d whose weights are rounded softly.

    It convolves with `weight` and `bias`: those of `layer`, until `soften` or `harden` makes them
    of what is learned. Where the kernels' steps and the bias are learned too, `log_gain` [O] is the
    logarithm of what a step has become in units of what it was, and `shift` [O] is what the bias
    has gained, in units of the standard deviation of what the layer gave first.
    """

    def __init__(
        self, layer: FakeQuantConv2d, activation: nn.Module, rounding: Rounding, *, affine: bool
    ) -> None:
        super().__init__()
        self.layer, self.activation = layer, activation
        self.rounding = rounding
        self.log_gain = nn.Parameter(torch.zeros_like(layer.weight_step), requires_grad=affine)
        learn_shift = affine and layer.bias is not None
        self.shift = nn.Parameter(torch.zeros_like(layer.weight_step), requires_grad=learn_shift)
        self.spread: torch.Tensor | None = None
        self.drop: Drop | None = None
        self.weight: torch.Tensor = layer.weight
        self.bias = _detached(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        quantized = self.activation(x)
        if self.drop is not None:
            quantized = torch.where(self.drop(x), x, quantized)
        y = self.layer._conv_forward(quantized, self.weight, self.bias)
        if self.spread is None:
            self.spread = y.detach().std(correction=0)
        return y

    def soften(self) -> None:
        """Convolve with what is learned, as it is on its way."""
        step = self._step().view(-1, *(1,) * (self.weight.ndim - 1))
        self.weight = self.rounding.soft() * step
        self.bias = self._bias()

    @torch.no_grad()
    def harden(self) -> QuantizedWeight:
        """Convolve with the levels that it stands for, and return them."""
        levels, bits = self.rounding.levels(), self.layer.weight_bits
        weight = QuantizedWeight.from_levels(levels, self._step(), self.layer.lowest_level, bits)
        self.weight, self.bias = weight.dequantize(), self._bias()
        return weight

    @torch.no_grad()
    def round_to_nearest(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Convolve with a float layer's weight rounded to nearest, on the layer's own grid."""
        step = self.layer.weight_step
        levels = torch.round(weight / step.view(-1, *(1,) * (weight.ndim - 1)))
        bits = self.layer.weight_bits
        rounded = QuantizedWeight.from_levels(levels, step, self.layer.lowest_level, bits)
        self.weight, self.bias = rounded.dequantize(), _detached(bias)

    def as_it_is(self) -> None:
        """Convolve with the layer's own weight and bias."""
        self.weight, self.bias = self.layer.weight, _detached(self.layer.bias)

    def _step(self) -> torch.Tensor:
        return self.layer.weight_step * self.log_gain.exp()

    def _bias(self) -> torch.Tensor | None:
        if self.layer.bias is None or self.spread is None:
            return _detached(self.layer.bias)
        return self.layer.bias + self.shift * self.spread


class SoftBlock:
    """A copy of one of a network's blocks, its quantized convolutions in their soft form.

    `latents`: the weights in steps before rounding, by layer; `rounding`: what is learned of them.
    `affine`: kernels' steps and biases are learned too. `learned_steps`: the layers whose
    activation's step is learned; layers of one quantizer share what becomes of it.
    """

    def __init__(
        self,
        network: SRNetwork,
        name: str,
        layers: Sequence[str],
        latents: Mapping[str, torch.Tensor],
        rounding: type[Rounding],
        *,
        affine: bool,
        learned_steps: Sequence[str],
    ) -> None:
        self.network, self.rounding = network, rounding
        self.module = copy.deepcopy(network.get_submodule(name)).requires_grad_(False)
        self.steps: dict[UniformQuantizer, LearnedStep] = {}
        self.convs: dict[str, SoftConv2d] = {}
        for layer in layers:
            own = self.module.get_submodule(layer.removeprefix(name).removeprefix("."))
            theirs = network.get_submodule(layer)
            assert isinstance(own, FakeQuantConv2d) and isinstance(theirs, FakeQuantConv2d)
            quantizer = theirs.quantizer
            activation: nn.Module = quantizer
            if not isinstance(quantizer, UniformQuantizer):
                activation = StraightThrough(quantizer)
            elif layer in learned_steps:
                activation = self.steps.setdefault(quantizer, LearnedStep(quantizer))
            learned = rounding(latents[layer], theirs.lowest_level, theirs.weight_bits)
            self.convs[layer] = SoftConv2d(own, activation, learned, affine=affine)
            if layer == name:
                self.module = self.convs[layer]
            else:
                replace(self.module, {own: self.convs[layer]})

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return what is learned, by kind."""
        convs = self.convs.values()
        found = {
            self.rounding.kind: [conv.rounding.v for conv in convs],
            "weight steps": [conv.log_gain for conv in convs],
            "biases": [conv.shift for conv in convs],
            "activation steps": [step.log_gain for step in self.steps.values()],
        }
        learned = {kind: [p for p in some if p.requires_grad] for kind, some in found.items()}
        return {kind: some for kind, some in learned.items() if some}

    def up(self) -> torch.Tensor | None:
        """Return AdaRound's h(V) of all weights in a row; None where rounding is another."""
        roundings = [conv.rounding for conv in self.convs.values()]
        up = [each.up().flatten() for each in roundings if isinstance(each, SoftRounding)]
        return torch.cat(up) if up else None

    def drop(self, how: Drop | None) -> None:
        """Leave some values unquantized from now on, or none."""
        for conv in self.convs.values():
            conv.drop = how

    def confine(self) -> None:
        """Keep what is learned where it has a say."""
        for conv in self.convs.values():
            conv.rounding.confine()

    def soften(self) -> None:
        for conv in self.convs.values():
            conv.soften()

    def harden(self) -> None:
        for conv in self.convs.values():
            conv.harden()

    def round_to_nearest(self, model: SRNetwork) -> None:
        """Take the float network's weights, rounded to nearest, and its biases."""
        for name, conv in self.convs.items():
            original = model.get_submodule(name)
            assert isinstance(original, nn.Conv2d)
            conv.round_to_nearest(original.weight, original.bias)

    def as_it_is(self) -> None:
        """Take the weights and biases that the network has."""
        for conv in self.convs.values():
            conv.as_it_is()

    @torch.no_grad()
    def commit(self) -> None:
        """Give the network the levels, steps and biases that were learned."""
        for name, conv in self.convs.items():
            layer = self.network.get_submodule(name)
            assert isinstance(layer, FakeQuantConv2d)
            layer.set_weight(conv.harden())
            if layer.bias is not None and conv.bias is not None:
                layer.bias.copy_(conv.bias)
        for quantizer, learned in self.steps.items():
            quantizer.step.copy_(learned.step)


def _detached(bias: torch.Tensor | None) -> torch.Tensor | None:
    return None if bias is None else bias.detach()
