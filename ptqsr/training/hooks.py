"""Where a training method meets the loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from ptqsr.files import replacing
from ptqsr.models import SRNetwork

# What a step reports, scalars; tensors may stay where they are.
Figures = dict[str, torch.Tensor | float]
# Gets (what, done, total).
Show = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Show nothing."""


class Batches(Protocol):
    """Inputs of a step, as `begin` gets them."""

    def __call__(self, step: int) -> torch.Tensor: ...


class TrainingHook:
    """A training method: each part has a plain default, and a method overrides what it changes.

    The loop calls, once: `check`, `begin`, and before the first step `initialise`; per step:
    `loss`, `backward`, `edit_gradients`, clipping, the optimiser; wherever it saves: `deliver`. The
    default is ordinary training by the mean absolute error. `autocasts`: whether to train in
    bfloat16 by default where the machine has it.
    """

    autocasts: ClassVar[bool] = True

    def check(self, network: SRNetwork) -> None:
        """Raise PtqsrError where the method cannot train a network, before pictures are read."""

    def begin(self, network: SRNetwork, lr: torch.Tensor) -> SRNetwork:
        """Return the network that is trained, made of the given one, in place or anew.

        `lr`: the inputs of the first step, all processes', float32 [N, C, P, P] in [0, 1], on the
        network's device.
        """
        return network

    def initialise(self, network: nn.Module, batches: Batches, show: Show = silent) -> None:
        """Give the parameters their first values; not called where training is resumed.

        Every process calls it; then all take the first one's values.
        """

    def identity(self) -> dict[str, Any]:
        """Return what a resumed run must have in common with the one it goes on with, as JSON."""
        return {"method": type(self).__name__}

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """Return Adam's groups; `lr_scale` in a group multiplies the scheduled learning rate."""
        return [{"params": [p for p in network.parameters() if p.requires_grad]}]

    def loss(
        self, network: nn.Module, lr: torch.Tensor, hr: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Figures]:
        """Return the loss in grey levels and further figures, whose means are logged.

        `lr` and `hr` are float32 in [0, 1]. The network runs under the loop's autocast; the
        loss itself is taken in float32.
        """
        return F.l1_loss(network(lr).float(), hr) * 255, {}

    def backward(self, network: nn.Module, loss: torch.Tensor) -> None:
        """Add the gradients of the loss to `.grad`."""
        loss.backward()

    def edit_gradients(self, network: nn.Module, step: int) -> Figures | None:
        """Change `.grad` in place, before clipping; return further figures to log, if any."""
        return None

    def deliver(self, average: SRNetwork, run: Path, made: dict[str, Any]) -> None:
        """Write what the run is for, as far as it has come: the averaged network's weights.

        `made`: the step, and the run's identity, as JSON.
        """
        tensors = {k: v.contiguous().cpu() for k, v in average.state_dict().items()}
        with replacing(run / "weights.safetensors") as temporary:
            save_file(tensors, temporary)

    def state_dict(self) -> dict[str, Any]:
        """Return what the method must keep to resume (tensors, numbers, strings)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
