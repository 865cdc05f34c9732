"""What quantization-aware methods share: a trainable network, taught by the float one."""

from __future__ import annotations

import copy
import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr import checkpoint
from ptqsr.calibration import collect, readings
from ptqsr.errors import PtqsrError
from ptqsr.models import SRNetwork
from ptqsr.modules import as_convolutions, convolutions, quantizable
from ptqsr.training.hooks import Batches, TrainingHook
from ptqsr.training.losses import structured_transfer
from ptqsr.training.methods.options import Options
from ptqsr.training.trainable import (
    TrainableQuantizer,
    WeightGrid,
    freeze,
    layers_of,
    make_trainable,
    quantizers_of,
)

CHECKPOINT = "quantized.safetensors"


class QuantizationAware(TrainingHook):
    """A method gives the quantizers of activations and of weights, and adds what else it has.

    The class attributes are the paper's own run: `epochs` of 1,000 steps, in `phases` of equal
    length each at half the learning rate of the one before.
    """

    name: ClassVar[str]
    epochs: ClassVar[int] = 30
    phases: ClassVar[int] = 3
    batch_size: ClassVar[int] = 16
    skt_weight: ClassVar[float] = 1000.0
    placements: ClassVar[tuple[str, ...]] = ("deployable",)

    teacher: SRNetwork  # the float network

    def __init__(self, options: Options) -> None:
        if options.placement not in self.placements:
            raise PtqsrError(f"placement {options.placement}: {self.name} has no such form")
        self.options = options

    def activation(self, number: int, channels: int) -> TrainableQuantizer:
        """Return the quantizer of a tensor that convolutions read, by its number."""
        raise NotImplementedError

    def weight(self, conv: nn.Conv2d) -> WeightGrid:
        """Return how a convolution's weights become integers."""
        raise NotImplementedError

    def begin(self, network: SRNetwork, lr: torch.Tensor) -> SRNetwork:
        self.teacher = copy.deepcopy(network).eval().requires_grad_(False)
        wanted = self.options.quantization
        layers = quantizable(network, wanted.include, wanted.exclude)
        as_convolutions(self.teacher, layers)
        convs = convolutions(network, as_convolutions(network, layers).values())
        self.observed = {name: self.teacher.get_submodule(name) for name in convs}
        found = readings(self.teacher, self.observed, lr[:1], per_channel=False)
        self.parts = dict(enumerate(found.parts))
        # A tensor is one part as it is read.
        self.read_by = {name: numbers[0] for name, numbers in found.layers.items()}
        self.look(lr)
        made = {n: self.activation(n, part.channels) for n, part in self.parts.items()}
        quantizers = {name: made[self.read_by[name]].to(lr.device) for name in convs}
        make_trainable(network, convs, quantizers, self.weight)
        return network

    def look(self, lr: torch.Tensor) -> None:
        """Learn from the inputs of the first step what the quantizers are to have."""

    def initialise(self, network: nn.Module, batches: Batches) -> None:
        layers = layers_of(network)
        own = {self.read_by[n]: layer.quantizer for n, layer in layers.items() if not layer.given}
        inputs = (batches(step) for step in range(self.options.init_batches))
        collect(
            self.teacher,
            self.observed,
            {number: self.parts[number] for number in own},
            inputs,
            lambda number, _: _Shown(own[number]),
        )

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """Return weights, and apart from them ranges and offsets."""
        quantizers = nn.ModuleList(quantizers_of(network))
        ranges = [p for p in quantizers.parameters() if p.requires_grad]
        apart = set(ranges)
        others = [p for p in network.parameters() if p.requires_grad and p not in apart]
        groups: list[dict[str, Any]] = [{"params": others}]
        if ranges:
            groups.append({"params": ranges, "lr_scale": self.options.range_factor})
        return groups

    def loss(
        self, network: nn.Module, lr: torch.Tensor, hr: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Return L1 in grey levels + skt_weight * SKT (PAMS, Eq. 7)."""
        assert isinstance(network, SRNetwork)
        features = network.features(lr)
        loss = F.l1_loss(network.reconstruct(lr, features).float(), hr) * 255
        figures = {"l1": float(loss.detach())}
        if self.options.skt_weight:
            with torch.no_grad():
                taught = self.teacher.features(lr)
            skt = structured_transfer(features, taught, self.options.skt)
            figures["skt"] = float(skt.detach())
            loss = loss + self.options.skt_weight * skt
        return loss, figures

    def identity(self) -> dict[str, Any]:
        options = self.options.to_json()
        del options["init_batches"]  # they are over
        return {**options, "weights": f"of digest {self.digest}"}

    @cached_property
    def digest(self) -> str:
        """That of the float network's weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.teacher.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def frozen(self, network: SRNetwork) -> SRNetwork:
        """Return what a trainable network has become."""
        made = freeze(network)
        made.calibration = self.options.quantization
        return made

    def deliver(self, average: SRNetwork, run: Path) -> None:
        """Write the checkpoint that `ptqsr.load` reads."""
        provenance = {"finetuned": self.identity()}
        checkpoint.save(self.frozen(average), run / CHECKPOINT, provenance=provenance)


class _Shown:
    """Shows a quantizer what its layers read."""

    def __init__(self, quantizer: TrainableQuantizer) -> None:
        self.quantizer = quantizer

    def update(self, x: torch.Tensor) -> None:
        self.quantizer.observe(x)
