"""CADyQ (Hong et al., ECCV 2022): bits chosen patch by patch and layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.evaluation import cost
from ptqsr.models import SRNetwork, digest_of, matches
from ptqsr.modules import owner, sense
from ptqsr.training.hooks import Batches, Figures, Show, silent
from ptqsr.training.losses import structured_transfer
from ptqsr.training.methods.base import QuantizationAware
from ptqsr.training.methods.distillation import bit_loss, feature_transfer, maps
from ptqsr.training.methods.options import Options
from ptqsr.training.methods.selection import Selection
from ptqsr.training.methods.teacher import read_teacher, rebuild
from ptqsr.training.trainable import (
    MaxScaleQuantizer,
    MaxWeights,
    SelectingQuantizer,
    Selector,
    TrainableConv2d,
    TrainableQuantizer,
    WeightGrid,
    layers_of,
)

# By layer, the chosen and the expected bits of a step's samples, in every call.
Choices = dict[str, tuple[torch.Tensor, torch.Tensor]]


class CADyQ(QuantizationAware):
    """Quantizers that choose their bits, a loss on the bits, and an 8-bit PAMS network as teacher.

    Weights and scales start as the teacher's; selectors start at the most bits.
    """

    name = "cadyq"
    epochs: ClassVar[int] = 300
    phases: ClassVar[int] = 2

    taught: SRNetwork  # by PAMS: the teacher of this method; `teacher` is the float network

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        if options.selection is None:
            raise PtqsrError("cadyq: has no teacher; name the folder of a PAMS run with 8 bits")
        self.selection: Selection = options.selection
        self.shared: Selector | None = None  # by all layers, where the patch alone chooses

    def check(self, network: SRNetwork) -> None:
        if not network.divided:
            raise PtqsrError(
                f"cadyq: is for the zoo's networks, not {network.title}: it learns from features "
                "before they are enlarged, and where that begins is not known; choose another "
                "--method"
            )
        super().check(network)
        read_teacher(self.selection.teacher, network, self.options.quantization)

    def title(self) -> str:
        bits = "/".join(map(str, self.selection.candidates))
        return f"{self.name}, W{self.options.quantization.weight_bits}A{bits}"

    def figures(self) -> dict[str, Any]:
        return {**super().figures(), "candidates": list(self.selection.candidates)}

    def begin(self, network: SRNetwork, lr: torch.Tensor) -> SRNetwork:
        self.shared = None
        wanted = self.options.quantization
        state = read_teacher(self.selection.teacher, network, wanted)
        self.taught = rebuild(self.selection.teacher, state, network, lr, wanted)
        self.taught_digest = digest_of(state["average"])
        macs = {layer.name: layer.macs for layer in cost(network).layers}
        trained = super().begin(network, lr)
        layers = layers_of(trained)
        # As the float network calls them: what trains is a convolution in their place.
        owners = {name: owner(trained, name) for name in layers}
        mean = fmean(macs[each] for each in owners.values())
        self.work = {name: macs[each] / mean for name, each in owners.items()}
        self.counted = [n for n, each in owners.items() if not matches(each, trained.outside_fqr)]
        sense(trained)
        _start(trained, self.taught)
        return trained

    @property
    def first_batches(self) -> int:
        return 0

    def initialise(self, network: nn.Module, batches: Batches, show: Show = silent) -> None:
        """Do nothing: `begin` has taken all first values from the teacher."""

    def activation(self, number: int, channels: int) -> TrainableQuantizer:
        chosen = self.selection
        candidates = chosen.candidates
        selector = self.shared or Selector(len(candidates), channels, chosen.choose_by)
        if chosen.choose_by == "patch":
            self.shared = selector
        return SelectingQuantizer(
            candidates,
            selector,
            unsigned=chosen.unsigned_after_relu,
            weights_follow=chosen.weights_follow_bits,
        )

    def weight(self, conv: nn.Conv2d) -> WeightGrid:
        return MaxWeights(self.options.quantization.weight_bits)

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """Return weights, scales at a rate of their own, and selectors."""
        chosen = {p for m in network.modules() if isinstance(m, Selector) for p in m.parameters()}
        scales = {m.theta for m in network.modules() if isinstance(m, MaxScaleQuantizer)}
        trained = [p for p in network.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p not in scales and p not in chosen]},
            {
                "params": [p for p in trained if p in scales],
                "lr_scale": self.options.range_factor,
            },
            {"params": [p for p in trained if p in chosen]},
        ]

    def loss(
        self, network: nn.Module, lr: torch.Tensor, hr: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Figures]:
        """Return L1 in grey levels + w_reg L_reg + w_kd L_kd + w_kdf L_kdf (Eq. 8)."""
        assert isinstance(network, SRNetwork)
        layers = layers_of(network)
        for layer in layers.values():
            _chooser(layer).choices.clear()
        with maps(layers) as ours:
            features = network.features(lr)
            output = network.reconstruct(lr, features)
        loss = F.l1_loss(output.float(), hr) * 255
        figures: Figures = {"l1": loss.detach()}
        with torch.no_grad(), maps(layers_of(self.taught)) as theirs:
            taught = self.taught.features(lr)
            if not self.inside:
                self.taught.reconstruct(lr, taught)  # which runs quantized layers, too
        choices = _take_choices(layers)
        parts = {
            "bit_loss": (self.selection.bit_weight_at(step), self._bit_loss(choices)),
            "kd": (
                self.options.skt_weight,
                structured_transfer(features, taught, self.options.skt),
            ),
            "kdf": (self.selection.feature_weight, feature_transfer(ours, theirs)),
        }
        for name, (weight, value) in parts.items():
            loss = loss + weight * value
            figures[name] = value.detach()
        return loss, {**figures, "fqr": self._feature_bits(choices)}

    def _bit_loss(self, choices: Choices) -> torch.Tensor:
        weighted = self.selection.bit_loss == "weighted"
        losses = [
            bit_loss(chosen, expected if weighted else None) * self.work[name]
            for name, (chosen, expected) in choices.items()
        ]
        return torch.stack(losses).sum()

    def _feature_bits(self, choices: Choices) -> torch.Tensor | float:
        """Return FQR of the batch: the mean of the chosen bits."""
        means = [choices[name][0].detach().mean() for name in self.counted]
        return torch.stack(means).mean() if means else 32.0

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "teacher": f"of digest {self.taught_digest}"}

    def frozen(self, network: SRNetwork) -> SRNetwork:
        made = super().frozen(network)
        sense(made)  # the quantizers are new
        return made


def _start(network: SRNetwork, taught: SRNetwork) -> None:
    """Take the teacher's weights, and its scales for all candidates, in place."""
    names = network.state_dict().keys()
    shared = {name: value for name, value in taught.state_dict().items() if name in names}
    network.load_state_dict(shared, strict=False)
    scales = layers_of(taught)
    for name, layer in layers_of(network).items():
        scale = scales[name].quantizer
        assert isinstance(scale, MaxScaleQuantizer)
        _chooser(layer).begin_as(scale)


def _chooser(layer: TrainableConv2d) -> SelectingQuantizer:
    assert isinstance(layer.quantizer, SelectingQuantizer)
    return layer.quantizer


def _take_choices(layers: Mapping[str, TrainableConv2d]) -> Choices:
    """Return what the samples of this step chose in every call, and forget it: it has a graph."""
    quantizers = {layer.quantizer: _chooser(layer) for layer in layers.values()}
    found = {}
    for quantizer, chooser in quantizers.items():
        chosen, expected = zip(*chooser.choices, strict=True)
        found[quantizer] = torch.cat(chosen), torch.cat(expected)
        chooser.choices.clear()
    return {name: found[layer.quantizer] for name, layer in layers.items()}
