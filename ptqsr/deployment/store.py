"""What the programs of a network share."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from ptqsr.quantizers import Chooser, SelectedQuantizer


class Store(nn.Module):
    """The constants and float layers that programs of one network share, by flat names."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[object, str] = {}

    def constant(self, tensor: torch.Tensor, hint: str) -> str:
        """Return the name of a buffer with these values; equal ones are kept once."""
        data = tensor.detach().contiguous()
        digest = hashlib.sha256(data.reshape(-1).view(torch.uint8).numpy().data).digest()
        key = (data.dtype, tuple(data.shape), digest)
        if key not in self._names:
            self._names[key] = self._free(hint)
            self.register_buffer(self._names[key], data.clone())
        return self._names[key]

    def chooser(self, quantizer: SelectedQuantizer, layer: str) -> str:
        """Return the name of the module that chooses for a layer."""
        key = ("chooser", layer)
        if key not in self._names:
            self._names[key] = self._free(f"{layer}_chooser")
            self.add_module(self._names[key], Chooser(quantizer, layer))
        return self._names[key]

    def layer(self, module: nn.Module, hint: str, dtype: torch.dtype | None = None) -> str:
        """Return the name of a module, whose parameters become `dtype` if that is not None."""
        if module not in self._names:
            self._names[module] = self._free(hint)
            # Integer convolutions give channels_last; a float layer must not turn that round.
            self.add_module(self._names[module], _channels_last(module).to(dtype=dtype))
        return self._names[module]

    def _free(self, hint: str) -> str:
        stem = "".join(c if c.isidentifier() or c.isdigit() else "_" for c in hint)
        name = stem = stem if stem.isidentifier() else f"_{stem}"
        number = 2
        while hasattr(self, name):
            name, number = f"{stem}_{number}", number + 1
        return name


def _channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
