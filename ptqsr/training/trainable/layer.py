"""Networks that are trained as if they were quantized, and what they become."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import nn

from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d, geometry, place, placed, replace
from ptqsr.quantizers import FEW_BITS, by_choice
from ptqsr.training.trainable.activations import TrainableQuantizer
from ptqsr.training.trainable.weights import MaxWeights, WeightGrid


class TrainableConv2d(nn.Conv2d):
    """A convolution with a float weight that computes with integers' values, as its input has.

    Convolutions that read one tensor share `quantizer`. It is float32 in and out. Under autocast
    quantized values and weights are rounded to bfloat16's 8 bits, and so is the result: the values
    that quantizers see move, some of them to another level.
    """

    def __init__(
        self, conv: nn.Conv2d, quantizer: TrainableQuantizer, weight_grid: WeightGrid
    ) -> None:
        super().__init__(**geometry(conv), device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.quantizer, self.weight_grid = quantizer, weight_grid
        self.coarse_grid = MaxWeights(FEW_BITS)
        self.given = False  # whether the input comes quantized already
        self.train(conv.training)

    def read_quantized(self, quantizer: TrainableQuantizer) -> None:
        """Take the input as it is: `quantizer` has been over it."""
        self.quantizer, self.given = quantizer, True

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = input if self.given else self.quantizer(input)
        weight, few = self.weight_grid(self.weight), self.quantizer.few()
        if few is None:
            return self._conv_forward(x, weight, self.bias)
        weights = (weight, self.coarse_grid(weight))
        return by_choice(x, few, lambda n, some: self._conv_forward(some, weights[n], self.bias))


def layers_of(network: nn.Module) -> dict[str, TrainableConv2d]:
    """Return the trainable convolutions by name."""
    return {n: m for n, m in network.named_modules() if isinstance(m, TrainableConv2d)}


def quantizers_of(network: nn.Module) -> list[TrainableQuantizer]:
    """Return all activation quantizers, each once."""
    return [m for m in network.modules() if isinstance(m, TrainableQuantizer)]


def make_trainable(
    network: SRNetwork,
    convs: Mapping[str, nn.Conv2d],
    quantizers: Mapping[str, TrainableQuantizer],
    weight_grid: Callable[[nn.Conv2d], WeightGrid],
) -> None:
    """Put trainable convolutions in the places of `convs`, in place; all parameters are trained."""
    network.requires_grad_(True)
    swaps = {
        conv: TrainableConv2d(conv, quantizers[name], weight_grid(conv))
        for name, conv in convs.items()
    }
    replace(network, swaps)  # type: ignore[arg-type]


@torch.no_grad()
def freeze(network: SRNetwork) -> SRNetwork:
    """Return what a trainable network has become: the ordinary fake-quantized network.

    It computes what the trainable one does in evaluation mode, bit for bit: quantizers and weights
    are the same numbers. The trainable network stays as it is.
    """
    frozen = copy.deepcopy(network)
    made = {quantizer: quantizer.frozen() for quantizer in quantizers_of(frozen)}
    elsewhere = list(placed(frozen))
    swaps: dict[nn.Module, nn.Module] = {
        layer: FakeQuantConv2d(layer, made[layer.quantizer], layer.weight_grid.frozen(layer.weight))
        for layer in layers_of(frozen).values()
    }
    replace(frozen, swaps)
    for name, where, quantizer in elsewhere:
        assert isinstance(quantizer, TrainableQuantizer)
        place(frozen.get_submodule(name), where, made[quantizer])
    return frozen.eval().requires_grad_(False)
