"""The networks that benchmarks/patches.py times: PAMS and CADyQ, and what chooses as is wished."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ptqsr import Config
from ptqsr.models import SRNetwork, observing
from ptqsr.modules import FakeQuantConv2d, QuantConv2d, replace, sense
from ptqsr.quantizers import SelectedQuantizer, choosers
from ptqsr.quantizers.choosing import features
from ptqsr.training.methods import PAMS, Options
from ptqsr.training.trainable import MaxScaleQuantizer, SelectingQuantizer, Selector, layers_of

CANDIDATES = (4, 6, 8)


def pair(network: SRNetwork, patches: torch.Tensor) -> tuple[SRNetwork, SRNetwork]:
    """Return a network as PAMS with 8 bits and as CADyQ begin, before training."""
    hook = PAMS(Options(Config(method="pams", bits=8), init_batches=1))
    trained = hook.begin(network, patches)
    hook.initialise(trained, lambda step: patches)
    teacher = hook.frozen(trained)
    swaps: dict[nn.Module, nn.Module] = {}
    for layer in layers_of(trained).values():
        assert isinstance(layer.quantizer, MaxScaleQuantizer)
        selector = Selector(len(CANDIDATES), layer.in_channels, "both")
        chooser = SelectingQuantizer(CANDIDATES, selector)
        chooser.begin_as(layer.quantizer)
        weight = layer.weight_grid.frozen(layer.weight)
        swaps[layer] = FakeQuantConv2d(layer, chooser.frozen(), weight)
    replace(trained, swaps)
    sense(trained)
    return teacher, trained.eval().requires_grad_(False)


@torch.no_grad()
def mixed(network: SRNetwork, patches: torch.Tensor, shares: Sequence[int]) -> SRNetwork:
    """Return a copy whose layers choose each of the candidates for that share of the patches."""
    made = copy.deepcopy(network)
    layers = choosers(made)
    ends = np.cumsum(shares)[:-1] / sum(shares)
    generator = torch.Generator().manual_seed(0)

    def settle(name: str, x: torch.Tensor) -> None:
        quantizer = layers[name].get_submodule("quantizer")
        assert isinstance(quantizer, SelectedQuantizer)
        seen = features(x, quantizer.gradient, quantizer.by)
        direction = torch.rand(seen.shape[1], generator=generator) / seen.mean(0).clamp(min=1e-6)
        score = seen @ direction
        low, high = (threshold(score, float(end)) for end in ends)
        quantizer.weight.copy_(torch.outer(torch.arange(3.0), direction))
        quantizer.bias.copy_(torch.tensor([0.0, -low, -low - high]))

    with observing(layers, settle):
        made(patches)
    return made


def threshold(score: torch.Tensor, part: float) -> float:
    """Return what is above this part of the scores, between two of them or beyond all."""
    ordered = score.sort().values.tolist()
    padded = [ordered[0] - 2, *ordered, ordered[-1] + 2]
    at = round(part * len(score))
    return (padded[at] + padded[at + 1]) / 2


def alone(network: SRNetwork) -> SRNetwork:
    """Return a network with an integer convolution in the place of each simulated one."""
    made = copy.deepcopy(network)
    layers = [m for m in made.modules() if isinstance(m, FakeQuantConv2d)]
    replace(made, {layer: QuantConv2d.from_fake(layer) for layer in layers})
    return made
