"""Signal to quantization noise of every layer's input, output and weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ptqsr.reporting.levels import as_given
from ptqsr.reporting.walk import Meeting


class Noise:
    """Sums of squares of a signal and of its error, over as many tensors as are shown."""

    def __init__(self) -> None:
        self.signal = self.noise = 0.0

    def update(self, meant: torch.Tensor, made: torch.Tensor) -> None:
        self.signal += float(torch.linalg.vector_norm(meant)) ** 2
        self.noise += float(torch.linalg.vector_norm(made - meant)) ** 2

    @property
    def db(self) -> float:
        """SQNR: 10 log10(sum of meant^2 / sum of (made - meant)^2); +inf without noise."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf


@dataclass(frozen=True)
class LayerNoise:
    """SQNR in dB. Input and output hold the errors of all layers before."""

    input_db: float
    output_db: float


class NoiseMeter:
    """Adds up what layers meet."""

    def __init__(self) -> None:
        self.inputs: dict[str, Noise] = {}
        self.outputs: dict[str, Noise] = {}

    def update(self, met: Meeting) -> None:
        read = as_given(met.layer.quantizer, met.read)
        self.inputs.setdefault(met.name, Noise()).update(met.meant, read)
        self.outputs.setdefault(met.name, Noise()).update(met.gave, met.made)

    def found(self) -> dict[str, LayerNoise]:
        return {
            name: LayerNoise(noise.db, self.outputs[name].db) for name, noise in self.inputs.items()
        }
