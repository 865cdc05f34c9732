"""A quantizer that chooses its bits, sample by sample (CADyQ, Eqs. 3-5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ptqsr.config import MAX_BITS, MIN_BITS
from ptqsr.quantizers.base import ActivationQuantizer
from ptqsr.quantizers.choosing import (
    CHOICES,
    PatchGradient,
    by_choice,
    features_of,
    logits,
    scores,
    width,
)
from ptqsr.quantizers.uniform import UniformQuantizer

# Of the weights that features of as few bits are multiplied with, where weights follow.
FEW_BITS = 4


class SelectedQuantizer(ActivationQuantizer):
    """One uniform quantizer for each candidate bit-width, of which each sample takes one.

    `candidates`: their bits, ascending; `levels`: how many levels each has. `weight`: float32
    [K, F] and `bias`: float32 [K], the selector: one linear layer on what `choosing.features` says
    of a sample, whose largest output chooses. `steps`: float32 [K], `lowests`: int32 [K], of the
    quantizers. `by`: what the choice may depend on, a key of CHOICES.

    `weights_follow`: samples that take FEW_BITS or less are convolved with the weight in FEW_BITS,
    which is `QuantizedWeight.coarser` of the layer's own.

    `gradient` is that of the network's pictures, which `modules.sense` connects. `numbers`: the
    candidates that the last forward's samples took. `bits` is the most that may be chosen.
    """

    kind = "selected"
    weight: torch.Tensor
    bias: torch.Tensor
    steps: torch.Tensor
    lowests: torch.Tensor

    def __init__(
        self,
        quantizers: list[UniformQuantizer],
        weight: torch.Tensor,
        bias: torch.Tensor,
        *,
        by: str,
        weights_follow: bool = False,
    ) -> None:
        super().__init__()
        self.weights_follow = weights_follow
        self.candidates = [quantizer.bits for quantizer in quantizers]
        self.levels = [quantizer.levels for quantizer in quantizers]
        self.bits, self.by = max(self.candidates), by
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("steps", torch.stack([q.step for q in quantizers]))
        self.register_buffer("lowests", torch.stack([q.lowest for q in quantizers]))
        self.gradient = PatchGradient()
        self.numbers: list[int] = []

    def candidate(self, number: int) -> UniformQuantizer:
        """Return one of the quantizers, by its place in `candidates`."""
        return UniformQuantizer(
            self.steps[number],
            self.lowests[number],
            bits=self.candidates[number],
            levels=self.levels[number],
        )

    def choose(self, x: torch.Tensor) -> list[int]:
        """Return the number of the candidate that each sample of x takes; keep it in `numbers`."""
        found = logits(x, self.gradient, self.weight, self.bias, self.by)
        if found.device.type == "meta":  # shapes have no contents to choose by
            self.numbers = [len(self.candidates) - 1] * len(x)
        else:
            self.numbers = found.argmax(1).tolist()
        return self.numbers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return by_choice(x, self.choose(x), lambda number, some: self.candidate(number)(some))

    def few(self, number: int) -> bool:
        """Return whether a candidate's samples take the weight in FEW_BITS."""
        return self.weights_follow and self.candidates[number] <= FEW_BITS

    def check(self, channels: int) -> None:
        count = len(self.candidates)
        if self.by not in CHOICES or self.candidates != sorted(set(self.candidates)) or count < 1:
            raise ValueError(f"candidates {self.candidates} chosen by {self.by}")
        wanted = {
            "weight": (torch.float32, (count, width(self.by, channels))),
            "bias": (torch.float32, (count,)),
            "steps": (torch.float32, (count,)),
            "lowests": (torch.int32, (count,)),
        }
        for name, (dtype, shape) in wanted.items():
            tensor = self.get_buffer(name)
            if (tensor.dtype, tuple(tensor.shape)) != (dtype, shape):
                raise ValueError(f"{name} of {tensor.dtype} {tuple(tensor.shape)}, not {shape}")
        if not (self.weight.isfinite().all() and self.bias.isfinite().all()):
            raise ValueError("a selector with NaN or Inf")
        for number in range(count):
            self.candidate(number).check(channels)

    def settings(self) -> dict[str, Any]:
        follow = {"weights_follow": True} if self.weights_follow else {}
        return {"bits": self.candidates, "levels": self.levels, "by": self.by, **follow}

    @classmethod
    def restore(
        cls, settings: dict[str, Any], tensors: dict[str, torch.Tensor]
    ) -> SelectedQuantizer:
        steps, lowests = tensors["steps"], tensors["lowests"]
        rows = zip(steps, lowests, settings["bits"], settings["levels"], strict=True)
        quantizers = []
        for step, lowest, bits, levels in rows:
            if type(bits) is not int or not MIN_BITS <= bits <= MAX_BITS:
                raise ValueError(f"{bits!r} bits")
            quantizers.append(UniformQuantizer(step, lowest, bits=bits, levels=levels))
        follow = settings.get("weights_follow", False) is True
        weight, bias = tensors["weight"], tensors["bias"]
        return cls(quantizers, weight, bias, by=settings["by"], weights_follow=follow)

    def extra_repr(self) -> str:
        return f"{self.kind} by {self.by}, {' or '.join(map(str, self.candidates))} bits"


class Chooser(nn.Module):
    """Takes a candidate of `quantizer` for every sample that the layer of this name reads.

    As SelectedQuantizer.choose does, of numbers that are known already, and without waiting for the
    device: (step float32, lowest level int32, levels int32, number int64), each [N], of arguments
    as `choosing.features_of` has them.
    """

    levels: torch.Tensor

    def __init__(self, quantizer: SelectedQuantizer, layer: str) -> None:
        super().__init__()
        self.quantizer, self.layer = quantizer, layer
        self.register_buffer("levels", torch.tensor(quantizer.levels, dtype=torch.int32))

    def forward(
        self,
        pictures: torch.Tensor,
        first: torch.Tensor | None = None,
        second: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        chooser = self.quantizer
        found = features_of(chooser.by, pictures, first, second)
        numbers = scores(found, chooser.weight, chooser.bias).argmax(1)
        return chooser.steps[numbers], chooser.lowests[numbers], self.levels[numbers], numbers


def choosers(network: nn.Module) -> dict[str, nn.Module]:
    """Return a network's layers whose `quantizer` chooses its bits, by name."""
    return {
        module.layer if isinstance(module, Chooser) else name: module
        for name, module in network.named_modules()
        if isinstance(module._modules.get("quantizer"), SelectedQuantizer)
    }
