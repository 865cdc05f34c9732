"""What each layer costs when it alone is quantized."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch

from ptqsr.evaluation import cost
from ptqsr.evaluation.metrics import psnr
from ptqsr.evaluation.quality import NamedPair
from ptqsr.images import luma, to_levels, to_tensor, unit_luma
from ptqsr.models import SRNetwork
from ptqsr.quantizers import PatchGradient, SelectedQuantizer
from ptqsr.reporting.subject import Subject
from ptqsr.reporting.tape import Tape

# Multiply-accumulates of all runs with one layer quantized: some ten seconds of two CPU cores.
BUDGET = 4.5e11


@dataclass(frozen=True)
class Sensitivity:
    """Of one layer quantized in the float network.

    `error`: mean squared difference to the float network's output, luma in grey levels; `drop`: of
    PSNR against the pictures, dB, the mean over crops. Nothing is rounded to 8 bits, which would
    hide small errors.
    """

    error: float
    drop: float


@dataclass(frozen=True)
class Sensitivities:
    """By layer; `together` is what all layers at once make; `crops`: how many were measured on."""

    layers: dict[str, Sensitivity]
    together: Sensitivity
    crops: int

    def share(self, name: str) -> float:
        """Return the part of a layer in the sum of all layers' errors."""
        total = sum(layer.error for layer in self.layers.values())
        return self.layers[name].error / total if total else 0.0


def affordable(subject: Subject, crops: list[NamedPair]) -> list[NamedPair]:
    """Return the crops that keep to the budget, at least one."""
    height, width = crops[0][2].shape[:2]
    work = cost(subject.floating, height=height, width=width).macs * len(subject.layers)
    return crops[: max(1, int(BUDGET / work))]


def sensitivities(
    subject: Subject,
    crops: list[NamedPair],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sensitivities:
    """Return what each layer costs alone, on crops of one size."""
    crops = affordable(subject, crops)
    x = inputs(subject.floating, [lr for _, lr, _ in crops])
    judge = _Judge(subject.floating, [hr for _, _, hr in crops])
    names = list(subject.layers)
    tape = Tape(subject.floating, x, names)
    plain = judge.levels(tape.output)
    before = judge.psnr(plain)

    def judged(output: torch.Tensor) -> Sensitivity:
        levels = judge.levels(output)
        error = float((levels - plain).square().mean())
        return Sensitivity(error, before - judge.psnr(levels))

    gradient = PatchGradient()
    gradient.look(x)
    found = {}
    progress(0, len(names))
    for done, (name, layer) in enumerate(subject.layers.items(), 1):
        if isinstance(layer.quantizer, SelectedQuantizer):
            layer = copy.deepcopy(layer)  # outside of its network it is shown the pictures here
            layer.quantizer.gradient = gradient
        found[name] = judged(tape.with_layer(name, layer))
        progress(done, len(names))
    with torch.no_grad():
        together = judged(subject.running(x))
    return Sensitivities(found, together, len(crops))


def inputs(network: SRNetwork, pictures: list[np.ndarray]) -> torch.Tensor:
    """Return pictures of one size as a network takes them, float32 [N, C, H, W]."""
    x = torch.cat([to_tensor(picture) for picture in pictures])
    return unit_luma(x) if network.colours == "y" else x


class _Judge:
    """Compares outputs with high-resolution crops, on luma less a border of `scale` pixels."""

    def __init__(self, network: SRNetwork, pictures: list[np.ndarray]) -> None:
        self.colours, self.border = network.colours, network.scale
        self.wanted = self._inside(torch.cat([luma(to_levels(picture)) for picture in pictures]))

    def levels(self, output: torch.Tensor) -> torch.Tensor:
        """Return luma in grey levels, float64 [N, 1, H, W], clipped to what a picture can show."""
        levels = output.double().clamp(0, 1) * 255
        return self._inside(levels if self.colours == "y" else luma(levels))

    def psnr(self, levels: torch.Tensor) -> float:
        pairs = zip(levels.split(1), self.wanted.split(1), strict=True)
        return fmean(psnr(ours, theirs) for ours, theirs in pairs)

    def _inside(self, x: torch.Tensor) -> torch.Tensor:
        cut = slice(self.border, -self.border)
        return x[..., cut, cut]
