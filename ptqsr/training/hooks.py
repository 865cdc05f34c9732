"""Where a training method meets the loop."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class TrainingHook:
    """A training method: each part has a plain default, and a method overrides what it changes.

    The loop calls, per step: `loss`, backward, `edit_gradients`, clipping, the optimiser. The
    default is ordinary training by the mean absolute error.
    """

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """Return Adam's groups; `lr_scale` in a group multiplies the scheduled learning rate."""
        return [{"params": [p for p in network.parameters() if p.requires_grad]}]

    def loss(
        self, network: nn.Module, lr: torch.Tensor, hr: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss in grey levels and further figures to log.

        `lr` and `hr` are float32 in [0, 1]. The network runs under the loop's autocast; the
        loss itself is taken in float32.
        """
        return F.l1_loss(network(lr).float(), hr) * 255, {}

    def edit_gradients(self, network: nn.Module, step: int) -> None:
        """Change `.grad` in place, before clipping."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the method must keep to resume (tensors, numbers, strings)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
