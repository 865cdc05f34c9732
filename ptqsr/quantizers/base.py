"""What an activation quantizer is."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn


class ActivationQuantizer(nn.Module):
    """Maps float32 [N, C, H, W] to the values that its codes stand for, same shape and layout.

    Its buffers and `settings()` are all it takes to make it again: `restore(settings, tensors)`.
    """

    kind: ClassVar[str]
    bits: int

    def settings(self) -> dict[str, Any]:
        """Return what is not in the buffers, as JSON."""
        raise NotImplementedError

    @classmethod
    def restore(
        cls, settings: dict[str, Any], tensors: dict[str, torch.Tensor]
    ) -> ActivationQuantizer:
        """Return the quantizer that gave these settings and buffers."""
        raise NotImplementedError

    def storage_bits(self) -> int:
        """Return what a deployed network keeps of it, in bits."""
        return sum(b.numel() * 8 * b.element_size() for b in self.buffers())

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.bits} bits"
