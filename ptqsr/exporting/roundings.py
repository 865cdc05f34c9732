"""The network with roundings like those of an exported file: how far apart the two may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ptqsr.exporting.portable import is_static, symmetric
from ptqsr.exporting.results import Range
from ptqsr.models import SRNetwork
from ptqsr.models.flow import LAYERS

# Relative, of all results: what other orders of sums change. A sum of a thousand float32 products
# is off by some 2^-24 sqrt(1000) of their magnitude.
SUMS = 1e-6


@dataclass(frozen=True)
class Roundings:
    """Of a file: layers whose results have `levels` over `ranges`, and whether static layers have
    symmetric weights."""

    ranges: Mapping[str, Range]
    levels: Mapping[str, int]
    symmetric: bool


@contextmanager
def rounded_otherwise(network: SRNetwork, roundings: Roundings) -> Iterator[None]:
    """Let a network compute with the roundings of a file, the same ones every time.

    Besides, results of all layers are off by up to SUMS, and where weights are symmetric
    integers, biases by up to half of the unit in which products are counted.
    """
    generator = torch.Generator().manual_seed(0)
    with ExitStack() as undone:
        for name, module in network.named_modules():
            if not isinstance(module, LAYERS):
                continue
            hook = _Rounding(generator, roundings.ranges.get(name), roundings.levels.get(name))
            if roundings.symmetric and is_static(module):
                codes, step, _ = symmetric(module.quantized_weight)
                undone.callback(setattr, module, "weight", module.weight)
                module.weight = codes.to(torch.float32) * step.view(-1, 1, 1, 1)
                hook.unit = (module.quantizer.get_buffer("step") * step).view(-1, 1, 1)
            undone.callback(module.register_forward_hook(hook).remove)
        yield


class _Rounding:
    """A hook that rounds what a layer gives."""

    def __init__(self, generator: torch.Generator, found: Range | None, levels: int | None) -> None:
        self.generator, self.found, self.levels = generator, found, levels
        self.unit: torch.Tensor | None = None

    def __call__(self, module: nn.Module, inputs: Any, result: torch.Tensor) -> torch.Tensor:
        result = result * (1 + SUMS * self._noise(result.shape, result.device))
        if self.unit is not None:
            result = result + self.unit * self._noise(self.unit.shape, result.device) / 2
        if self.found is None or self.levels is None:
            return result
        low, high = (
            torch.from_numpy(end).to(result).view(-1, 1, 1)
            for end in (self.found.low, self.found.high)
        )
        step = ((high - low) / (self.levels - 1)).clamp(min=torch.finfo(torch.float32).tiny)
        return low + torch.round((result.clamp(low, high) - low) / step) * step

    def _noise(self, shape: torch.Size, device: torch.device) -> torch.Tensor:
        """Return numbers between -1 and 1."""
        return 2 * torch.rand(shape, generator=self.generator).to(device) - 1
