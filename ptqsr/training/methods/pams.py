"""PAMS (Li et al., ECCV 2020), and the quantizers that its Table 2 compares with."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from ptqsr.models import SRNetwork
from ptqsr.training.hooks import Batches, Figures, Show, silent
from ptqsr.training.methods.base import QuantizationAware
from ptqsr.training.methods.blocks import blocks_of, observe_blocks, place_in_blocks
from ptqsr.training.methods.options import PLACEMENTS
from ptqsr.training.trainable import (
    MaxScaleQuantizer,
    MaxWeights,
    MinMaxWeights,
    MovingRangeQuantizer,
    TanhWeights,
    TrainableQuantizer,
    WeightGrid,
    quantizers_of,
)

# Of PACT's L2 penalty on alpha.
ALPHA_DECAY = 1e-4


class PAMS(QuantizationAware):
    """Learnable max scale, structured knowledge transfer."""

    name = "pams"
    placements = PLACEMENTS

    def check(self, network: SRNetwork) -> None:
        super().check(network)
        if self.options.placement == "paper":
            blocks_of(network, self.chosen(network))

    def begin(self, network: SRNetwork, lr: torch.Tensor) -> SRNetwork:
        network = super().begin(network, lr)
        if self.options.placement == "paper":
            place_in_blocks(network, self.teacher, lr[:1], lambda: self.activation(-1, 0))
        return network

    def initialise(self, network: nn.Module, batches: Batches, show: Show = silent) -> None:
        super().initialise(network, batches, show)
        if self.options.placement == "paper":
            inputs = self.first_inputs(batches, show)
            observe_blocks(self.teacher, network, inputs, self.running)

    def activation(self, number: int, channels: int) -> TrainableQuantizer:
        return MaxScaleQuantizer(self.options.quantization.act_bits)

    def weight(self, conv: nn.Conv2d) -> WeightGrid:
        return MaxWeights(self.options.quantization.weight_bits)


class DoReFa(PAMS):
    """Zhou et al. 2016: weights through tanh; the range of activations stays as it began."""

    name = "dorefa"
    skt_weight: ClassVar[float] = 0.0

    def activation(self, number: int, channels: int) -> TrainableQuantizer:
        return MaxScaleQuantizer(self.options.quantization.act_bits, trained=False)

    def weight(self, conv: nn.Conv2d) -> WeightGrid:
        return TanhWeights(self.options.quantization.weight_bits)


class PACT(DoReFa):
    """Choi et al. 2018: a learnable end of the range, which values above it move, and a penalty.

    Of alpha in units of its start: in a network's own it would depend on whether that computes in
    [0, 1] or in grey levels.
    """

    name = "pact"

    def activation(self, number: int, channels: int) -> TrainableQuantizer:
        return MaxScaleQuantizer(self.options.quantization.act_bits, both_sides=False)

    def loss(
        self, network: nn.Module, lr: torch.Tensor, hr: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Figures]:
        loss, figures = super().loss(network, lr, hr, step)
        scales: list[torch.Tensor] = [
            q.theta for q in quantizers_of(network) if isinstance(q, MaxScaleQuantizer)
        ]
        penalty = torch.stack(scales).square().sum()
        return loss + ALPHA_DECAY * penalty, {**figures, "theta_squared": penalty.detach()}


class TFLite(QuantizationAware):
    """Jacob et al. 2018: asymmetric; ranges of activations are moving averages."""

    name = "tflite"
    skt_weight: ClassVar[float] = 0.0

    def activation(self, number: int, channels: int) -> TrainableQuantizer:
        return MovingRangeQuantizer(self.options.quantization.act_bits)

    def weight(self, conv: nn.Conv2d) -> WeightGrid:
        return MinMaxWeights(self.options.quantization.weight_bits)
