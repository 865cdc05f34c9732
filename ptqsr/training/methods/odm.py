"""ODM (Hong and Lee), in the first version of the paper: learnt ranges, less variance, offsets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.files import replacing
from ptqsr.models import SRNetwork, observing
from ptqsr.training.config import TrainConfig
from ptqsr.training.data import TrainingPictures
from ptqsr.training.hooks import Figures, Show
from ptqsr.training.losses import deviation, mismatch
from ptqsr.training.methods.base import QuantizationAware
from ptqsr.training.processes import mean_over_processes
from ptqsr.training.trainable import (
    ClippedQuantizer,
    PercentileWeights,
    TrainableQuantizer,
    WeightGrid,
    layers_of,
    quantizers_of,
)

MISMATCH = "mismatch.json"


class ODM(QuantizationAware):
    """Variance regularisation where it does not hinder the picture; offsets where channels differ.

    The run gets `mismatch.json`: m^mu and m^sigma (Eq. 6) of what every layer quantizes, in the
    float network and in the trained one (Fig. 3). The log has the share of parameters whose two
    gradients have opposite signs (`conflict`, Fig. 2).
    """

    name = "odm"
    epochs = 60
    phases = 4
    batch_size = 8

    def prepare(
        self,
        build: Callable[[], SRNetwork],
        pictures: TrainingPictures,
        config: TrainConfig,
        run: Path,
        tell: Callable[[str], None],
        show: Show,
    ) -> QuantizationAware:
        """Choose lambda_V, where the options leave it open."""
        # It trains by ODM to choose.
        from ptqsr.training.methods.variance import choose_variance_weight

        if self.options.variance_weight is not None:
            return self

        def row(found: dict[str, Any]) -> None:
            weight, psnr = found["variance_weight"], found["psnr"]
            tell(f"variance weight {weight:.3g}: {psnr:.3f} dB on pictures set aside")

        weight = choose_variance_weight(build, pictures, config, self.options, run, row, show)
        return type(self)(replace(self.options, variance_weight=weight))

    def figures(self) -> dict[str, Any]:
        return {**super().figures(), "variance_weight": self.options.variance_weight}

    def look(self, lr: torch.Tensor) -> None:
        """Choose the layers with the largest mismatch (Eqs. 6-8)."""
        self.sample = lr
        self.before = self._mismatches(self.teacher, self.observed)
        self.shifted, self.scaled = (
            self._largest({name: pair[i] for name, pair in self.before.items()}) for i in (0, 1)
        )

    def activation(self, number: int, channels: int) -> TrainableQuantizer:
        made = ClippedQuantizer(
            self.options.quantization.act_bits,
            channels,
            shifts=number in self.shifted,
            scales=number in self.scaled,
        )
        made.keep = self.weight_of_variance > 0
        return made

    @property
    def weight_of_variance(self) -> float:
        if self.options.variance_weight is None:
            raise PtqsrError("odm: variance_weight is None; give it, or train what `prepare` gives")
        return self.options.variance_weight

    def weight(self, conv: nn.Conv2d) -> WeightGrid:
        return PercentileWeights(self.options.quantization.weight_bits, conv.weight)

    def loss(
        self, network: nn.Module, lr: torch.Tensor, hr: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Figures]:
        """Return the reconstruction loss (Eq. 9); keep the variance's (Eq. 3) for `backward`."""
        loss, figures = super().loss(network, lr, hr, step)
        if not self.options.variance_weight:
            return loss, figures
        self.deviation = torch.stack([deviation(x) for x in _seen(network)]).sum()
        return loss, {**figures, "deviation": self.deviation.detach()}

    def backward(self, network: nn.Module, loss: torch.Tensor) -> None:
        if not self.options.variance_weight:
            return super().backward(network, loss)
        parameters = [p for p in network.parameters() if p.requires_grad]
        regularisation = self.weight_of_variance * self.deviation
        found = torch.autograd.grad(
            regularisation, parameters, retain_graph=True, allow_unused=True
        )
        # DistributedDataParallel averages what `backward` gives, and only that.
        self.regular = {
            p: mean_over_processes(gradient)
            for p, gradient in zip(parameters, found, strict=True)
            if gradient is not None
        }
        del self.deviation
        return super().backward(network, loss)

    def edit_gradients(self, network: nn.Module, step: int) -> Figures:
        """Add the regularisation's gradients where they agree in sign (Eq. 5)."""
        if not self.options.variance_weight:
            return {}
        share = cooperate(self.regular, always=not self.options.cooperative)
        del self.regular
        return {"conflict": share}

    def deliver(self, average: SRNetwork, run: Path, made: dict[str, Any]) -> None:
        super().deliver(average, run, made)
        after = self._mismatches(average, layers_of(average))
        rows: list[dict[str, Any]] = [
            {
                "layer": name,
                "shift": self.read_by[name] in self.shifted,
                "gain": self.read_by[name] in self.scaled,
                "before": dict(zip(("mean", "deviation"), self.before[name], strict=True)),
                "after": dict(zip(("mean", "deviation"), after[name], strict=True)),
            }
            for name in self.read_by
        ]
        with replacing(run / MISMATCH) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")

    @torch.no_grad()
    def _mismatches(
        self, network: SRNetwork, layers: Mapping[str, nn.Module]
    ) -> dict[str, tuple[float, float]]:
        """Return (m^mu, m^sigma) of every layer's input, displaced where it has offsets."""
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in layers}

        def take(name: str, x: torch.Tensor) -> None:
            quantizer = getattr(layers[name], "quantizer", None)
            found[name].append(mismatch(x if quantizer is None else quantizer.displaced(x)))

        with observing(layers, take):
            network(self.sample)
        return {
            name: (fmean(mu for mu, _ in pairs), fmean(sigma for _, sigma in pairs))
            for name, pairs in found.items()
        }

    def _largest(self, of_layers: Mapping[str, float]) -> set[int]:
        """Return the tensors above the 100 (1 - p) percentile, p = offset_ratio."""
        values = {self.read_by[name]: value for name, value in of_layers.items()}
        ratio = self.options.offset_ratio
        if ratio == 1:
            return set(values)
        every = torch.tensor(list(values.values()), dtype=torch.float64)
        threshold = float(every.quantile(1 - ratio))
        return {number for number, value in values.items() if value > threshold}


def cooperate(
    regular: Mapping[nn.Parameter, torch.Tensor], *, always: bool = False
) -> torch.Tensor:
    """Add gradients to `.grad` element by element, where the product is not negative (Eq. 5).

    Returns the share of elements whose gradients have opposite signs, on their device; `always`
    adds these too (Eq. 4).
    """
    conflicts: list[torch.Tensor] = []
    elements = 0
    for parameter, gradient in regular.items():
        assert parameter.grad is not None
        # Signs, since a product of small numbers may be 0.
        opposite = parameter.grad.sign() * gradient.sign() < 0
        conflicts.append(opposite.sum())
        elements += opposite.numel()
        parameter.grad += gradient if always else gradient.masked_fill(opposite, 0)
    return torch.stack(conflicts).sum() / elements if conflicts else torch.zeros(())


def _seen(network: nn.Module) -> list[torch.Tensor]:
    """Return what was quantized, and forget it."""
    found = []
    for quantizer in quantizers_of(network):
        assert isinstance(quantizer, ClippedQuantizer)
        found += quantizer.seen
        quantizer.seen = []
    return found
