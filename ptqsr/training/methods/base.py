"""What quantization-aware methods share: a trainable network, taught by the float one."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr import checkpoint
from ptqsr.calibration import collect, readings
from ptqsr.errors import PtqsrError
from ptqsr.models import SRNetwork, observing
from ptqsr.modules import as_convolutions, convolutions, quantizable
from ptqsr.training.config import TrainConfig
from ptqsr.training.data import TrainingPictures
from ptqsr.training.hooks import Batches, Figures, Show, TrainingHook, silent
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

    # Values that bfloat16 rounds go to other levels than those of the network that is delivered.
    autocasts = False
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

    def check(self, network: SRNetwork) -> None:
        self.chosen(network)  # raises for a network that is quantized already
        if self.options.skt_weight and not network.divided:
            raise PtqsrError(
                f"{self.name}: also learns from features before they are enlarged (SKT), and where "
                f"{network.title} enlarges is not known; give --skt-weight 0"
            )

    def chosen(self, network: SRNetwork) -> dict[str, nn.Module]:
        """Return the layers that are quantized, by name."""
        wanted = self.options.quantization
        return quantizable(network, wanted.include, wanted.exclude)

    def prepare(
        self,
        build: Callable[[], SRNetwork],
        pictures: TrainingPictures,
        config: TrainConfig,
        run: Path,
        tell: Callable[[str], None],
        show: Show,
    ) -> QuantizationAware:
        """Return the method as it is trained: what short runs are to choose is chosen here.

        `build` gives the float network, `run` is the folder; `tell` gets lines, `show` progress.
        """
        return self

    @property
    def first_batches(self) -> int:
        """How many batches `initialise` looks at."""
        return self.options.init_batches

    def title(self) -> str:
        """Return the method and its bits, as "pams, W4A4"."""
        bits = self.options.quantization
        return f"{self.name}, W{bits.weight_bits}A{bits.act_bits}"

    def figures(self) -> dict[str, Any]:
        """Return what a report says of the method."""
        bits = self.options.quantization
        return {
            "method": self.name,
            "weight_bits": bits.weight_bits,
            "act_bits": bits.act_bits,
            "placement": self.options.placement,
        }

    def begin(self, network: SRNetwork, lr: torch.Tensor) -> SRNetwork:
        self.teacher = copy.deepcopy(network).eval().requires_grad_(False)
        layers = self.chosen(network)
        as_convolutions(self.teacher, layers)
        convs = convolutions(network, as_convolutions(network, layers).values())
        self.observed = {name: self.teacher.get_submodule(name) for name in convs}
        found = readings(self.teacher, self.observed, lr[:1], per_channel=False)
        self.parts = dict(enumerate(found.parts))
        whole = _calls(self.teacher, self.observed, lr[:1])
        # Whether all the layers run before features are enlarged.
        self.inside = _calls(self.teacher.features, self.observed, lr[:1]) == whole
        self.running = self.teacher.features if self.inside else self.teacher
        # A tensor is one part as it is read.
        self.read_by = {name: numbers[0] for name, numbers in found.layers.items()}
        self.look(lr)
        made = {n: self.activation(n, part.channels) for n, part in self.parts.items()}
        quantizers = {name: made[self.read_by[name]].to(lr.device) for name in convs}
        make_trainable(network, convs, quantizers, self.weight)
        return network

    def look(self, lr: torch.Tensor) -> None:
        """Learn from the inputs of the first step what the quantizers are to have."""

    def initialise(self, network: nn.Module, batches: Batches, show: Show = silent) -> None:
        layers = layers_of(network)
        own = {self.read_by[n]: layer.quantizer for n, layer in layers.items() if not layer.given}
        collect(
            self.teacher,
            self.observed,
            {number: self.parts[number] for number in own},
            self.first_inputs(batches, show),
            lambda number, _: _Shown(own[number]),
            run=self.running,
        )

    def first_inputs(self, batches: Batches, show: Show) -> Iterator[torch.Tensor]:
        """Yield the inputs that ranges begin with."""
        for step in range(self.first_batches):
            yield batches(step)
            show("batches for the first ranges", step + 1, self.first_batches)

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
    ) -> tuple[torch.Tensor, Figures]:
        """Return L1 in grey levels + skt_weight * SKT (PAMS, Eq. 7)."""
        assert isinstance(network, SRNetwork)
        features = network.features(lr)
        loss = F.l1_loss(network.reconstruct(lr, features).float(), hr) * 255
        figures: Figures = {"l1": loss.detach()}
        if self.options.skt_weight:
            with torch.no_grad():
                taught = self.teacher.features(lr)
            skt = structured_transfer(features, taught, self.options.skt)
            figures["skt"] = skt.detach()
            loss = loss + self.options.skt_weight * skt
        return loss, figures

    def identity(self) -> dict[str, Any]:
        options = self.options.to_json()
        del options["init_batches"]  # they are over
        return options

    def frozen(self, network: SRNetwork) -> SRNetwork:
        """Return what a trainable network has become."""
        made = freeze(network)
        made.calibration = self.options.quantization
        return made

    def deliver(self, average: SRNetwork, run: Path, made: dict[str, Any]) -> None:
        """Write the checkpoint that `ptqsr.load` reads."""
        frozen = self.frozen(average)
        checkpoint.save(frozen, run / CHECKPOINT, provenance={"finetuned": made})


@torch.no_grad()
def _calls(
    run: Callable[[torch.Tensor], torch.Tensor], layers: Mapping[str, nn.Module], x: torch.Tensor
) -> Counter[str]:
    """Return how often each layer runs."""
    found: Counter[str] = Counter()
    with observing(layers, lambda name, _: found.update([name])):
        run(x)
    return found


class _Shown:
    """Shows a quantizer what its layers read."""

    def __init__(self, quantizer: TrainableQuantizer) -> None:
        self.quantizer = quantizer

    def update(self, x: torch.Tensor) -> None:
        self.quantizer.observe(x)
