"""What an activation quantizer is."""

from __future__ import annotations

from collections.abc import Sequence
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
        """Return the quantizer that gave these settings and buffers; `check` it before use."""
        raise NotImplementedError

    @classmethod
    def join(cls, parts: Sequence[ActivationQuantizer]) -> ActivationQuantizer:
        """Return the quantizer of a concatenation from those of its parts, two or more.

        Only quantizers whose parameters belong to channels have one.
        """
        raise NotImplementedError

    @property
    def parts(self) -> list[ActivationQuantizer]:
        """The quantizers it is made of: itself, but for a concatenation."""
        return [self]

    def check(self, channels: int) -> None:
        """Raise ValueError where the quantizer does not fit a tensor of so many channels."""
        raise NotImplementedError

    def storage_bits(self) -> int:
        """Return what a deployed network keeps of it, in bits."""
        return sum(b.numel() * 8 * b.element_size() for b in self.buffers())

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.bits} bits"


def join(parts: Sequence[ActivationQuantizer]) -> ActivationQuantizer:
    """Return the quantizer of a tensor from those of its parts, one or more."""
    kinds = {part.kind for part in parts}
    if len(kinds) != 1:
        raise ValueError(f"parts of kinds {sorted(kinds)}")
    return parts[0] if len(parts) == 1 else type(parts[0]).join(parts)
