"""What is to be timed, in words that another process can read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ptqsr.models import SRNetwork, rebuild
from ptqsr.modules import FakeQuantConv2d, quantizable

# One inference: from an input that is there to an output that is whole.
Run = Callable[[], object]


class Unavailable(Exception):
    """Why a candidate cannot run here: what its row says in place of figures."""


@dataclass(frozen=True)
class Task:
    """A network and its input: float32 [batch, C, height, width] in [0, 1], on so many threads.

    `checkpoint` is that of the quantized network, None for a float one; `layers` the names of the
    convolutions that are, or by the papers would be, quantized. `onnx` holds the files of the
    exported network: float32, int8 (those layers), all (int8 in every layer). `device` is where the
    network runs, its input lies and its output is to be.
    """

    architecture: str
    hyperparameters: dict[str, Any]
    colours: str
    checkpoint: str | None
    layers: tuple[str, ...]
    height: int
    width: int
    batch: int = 1
    threads: int = 1
    onnx: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"

    def network(self) -> SRNetwork:
        """Return the float network with random weights.

        A checkpoint does not hold the weights before quantization; latency and memory depend on
        the shapes alone.
        """
        torch.manual_seed(0)
        network = rebuild(self.architecture, self.hyperparameters)
        return network.eval().requires_grad_(False)

    def input(self) -> torch.Tensor:
        """Return the picture, the same for every candidate: random and uniform."""
        generator = torch.Generator().manual_seed(0)
        channels = 1 if self.colours == "y" else 3
        x = torch.rand(self.batch, channels, self.height, self.width, generator=generator)
        return x.to(self.device)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Task:
        return cls(**{**values, "layers": tuple(values["layers"])})


def task_of(
    network: SRNetwork,
    checkpoint: str | Path | None,
    height: int,
    width: int,
    batch: int = 1,
    device: str = "cpu",
) -> Task:
    """Return the task of a network of the zoo; `checkpoint` is where a quantized one is from."""
    layers = [n for n, m in network.named_modules() if isinstance(m, FakeQuantConv2d)]
    return Task(
        architecture=network.architecture,
        hyperparameters=json.loads(json.dumps(network.hyperparameters)),
        colours=network.colours,
        checkpoint=str(checkpoint) if layers else None,
        layers=tuple(layers or quantizable(network)),
        height=height,
        width=width,
        batch=batch,
        device=device,
    )
