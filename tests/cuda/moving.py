"""Tensors on another device, laid out in memory as here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map_only


@dataclass(eq=False)
class _Memory:
    """A storage there, as bytes of which all tensors in it are views; `here`: the same here."""

    here: torch.Tensor
    there: torch.Tensor
    version: int | None


class Mover:
    """Moves tensors to a device: whole storages, so that strides, offsets and alignment stay.

    The same tensor is moved to the same tensor, tensors that share memory to tensors that do. What
    was changed in place here is written in place there. (Tensors of inference mode count no
    changes: they are moved anew.)
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._tensors: dict[int, tuple[torch.Tensor, tuple[Any, ...], torch.Tensor]] = {}
        self._memories: dict[int, _Memory] = {}

    def __call__(self, arguments: Any) -> Any:
        """Return arguments with their tensors moved."""
        return tree_map_only(torch.Tensor, self._move, arguments)

    def back(self, results: Any) -> Any:
        """Return results with their tensors in the host's memory."""
        return tree_map_only(torch.Tensor, lambda t: t.cpu(), results)

    def _move(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(x.is_inference()):
            memory = self._memory_of(x)
            place = (memory, x.storage_offset(), x.shape, x.stride(), x.dtype)
            kept = self._tensors.get(id(x))
            if kept is None or kept[1] != place:
                whole = len(memory.there) // x.element_size() * x.element_size()
                there = memory.there[:whole].view(x.dtype)
                there = there.as_strided(x.shape, x.stride(), x.storage_offset())
                # With x itself, so that no other gets its id.
                kept = self._tensors[id(x)] = x, place, there
            return kept[2]

    def _memory_of(self, x: torch.Tensor) -> _Memory:
        version = None if x.is_inference() else x._version
        storage = x.untyped_storage()
        memory = self._memories.get(storage._cdata)
        if memory is None or version is None:
            here = torch.empty(0, dtype=torch.uint8).set_(storage)
            memory = _Memory(here, here.to(self.device, copy=True), version)
            self._memories[storage._cdata] = memory
        elif memory.version != version:
            memory.there.copy_(memory.here)  # which all views of it count as a change
            memory.version = version
        return memory
