"""What each layer of a quantized network costs alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ptqsr.evaluation import cost
from ptqsr.evaluation.quality import NamedPair
from ptqsr.quantizers import PatchGradient, SelectedQuantizer
from ptqsr.reporting.subject import Subject
from ptqsr.sensitivity import Judge, Loss, Tape, as_inputs

# Multiply-accumulates of all runs with one layer quantized: some seconds of two CPU cores.
BUDGET = 3e11


@dataclass(frozen=True)
class Sensitivities:
    """By layer, each put alone into the float network as the quantized one has it.

    `together` is what all layers at once make; `crops`: how many were measured on.
    """

    layers: dict[str, Loss]
    together: Loss
    crops: int

    def share(self, name: str) -> float:
        """Return the part of a layer in the sum of all layers' errors."""
        total = sum(loss.mse for loss in self.layers.values())
        return self.layers[name].mse / total if total else 0.0

    def drop(self, name: str) -> float:
        """Return what a layer costs in dB of PSNR, to first order."""
        drop = self.layers[name].drop
        assert drop is not None  # there are true pictures
        return drop


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
    x = as_inputs(subject.floating, [lr for _, lr, _ in crops])
    tape = Tape(subject.counterpart, x, subject.layers.values())
    judge = Judge(subject.floating, tape.output, [hr for _, _, hr in crops])
    gradient = PatchGradient()
    gradient.look(x)
    found = {}
    progress(0, len(subject.layers))
    for done, (name, path) in enumerate(subject.layers.items(), 1):
        layer = subject.fake(name)
        if isinstance(layer.quantizer, SelectedQuantizer):
            layer = copy.deepcopy(layer)  # outside of its network it is shown the pictures here
            layer.quantizer.gradient = gradient
        found[name] = judge.loss(tape.with_layer(path, layer), f"layer {name}: quantized alone it")
        progress(done, len(subject.layers))
    with torch.no_grad():
        together = judge.loss(subject.running(x), f"{subject.title}: the network")
    return Sensitivities(found, together, len(crops))
