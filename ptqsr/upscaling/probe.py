"""What a network needs to know of a picture, and how much memory it takes: found without running.

The network runs on PyTorch's meta device, where tensors have shapes and no values.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Extent:
    """Of a function from pictures to pictures.

    An output pixel depends on no input farther away than `radius` input pixels (an upper bound:
    the sum over all convolutions), unless `whole_picture`: then it depends on every pixel, through
    statistics of the whole picture. `peak_bytes` is the most memory its tensors take at one time,
    besides inputs and weights, `result_bytes` what is left of it. `convolutions` counts those that
    run.
    """

    radius: int
    whole_picture: bool
    peak_bytes: int
    result_bytes: int
    convolutions: int


def probe(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Extent:
    """Return the extent of a function whose inputs and weights are on the meta device.

    The first input gives the unit of `radius`.
    """
    watch = _Watch(inputs)
    with torch.no_grad(), watch:
        result = function(*inputs)
    left = 0 if result is inputs[0] else _bytes(result)
    return Extent(ceil(watch.radius), watch.whole_picture, watch.peak, left, watch.convolutions)


class _Watch(TorchDispatchMode):
    def __init__(self, inputs: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self.height, self.width = inputs[0].shape[-2:]
        self.radius, self.whole_picture = 0.0, False
        self.live, self.peak, self.convolutions = 0, 0, 0
        # How many tensors share each storage; inputs and weights are not counted.
        self.users: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        fresh = self._count(inputs, outputs)
        if func is torch.ops.aten.convolution.default:
            self._convolution(*args[:7])
            # The library may reorder input and output for its kernels.
            self.peak = max(self.peak, self.live + _bytes(args[0]) + fresh)
        elif func is torch.ops.aten.native_batch_norm.default and not args[5]:
            pass  # with statistics of its training
        elif func.namespace == "ptqsr" or any(map(self._is_picture, inputs)):
            # A gate or a mean of one value a channel; so are a quantizer's statistics.
            self.whole_picture |= any(t.numel() and not self._is_picture(t) for t in outputs)
        return result

    def _is_picture(self, x: torch.Tensor) -> bool:
        return x.ndim >= 3 and x.numel() >= self.height * self.width > 1

    def _count(self, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> int:
        """Add what was made anew to the memory in use; return its bytes."""
        old = {t.untyped_storage()._cdata for t in inputs}
        fresh = 0
        for tensor in outputs:
            key, size = tensor.untyped_storage()._cdata, _bytes(tensor)
            if key in old and key not in self.users:
                continue
            if key not in self.users:
                fresh += size
                self.live += size
            self.users[key] = self.users.get(key, 0) + 1
            weakref.finalize(tensor, self._release, key, size)
        self.peak = max(self.peak, self.live)
        return fresh

    def _release(self, key: int, size: int) -> None:
        self.users[key] -= 1
        if not self.users[key]:
            del self.users[key]
            self.live -= size

    def _convolution(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: Any,
        stride: list[int],
        padding: Any,
        dilation: list[int],
        transposed: bool,
    ) -> None:
        self.convolutions += 1
        # In input pixels of this layer, then of the picture.
        taps = max((k - 1) * d for k, d in zip(weight.shape[2:], dilation, strict=True))
        reach = taps / max(stride) if transposed else taps / 2
        self.radius += reach * self.height / max(1, x.shape[-2])


def _bytes(x: torch.Tensor) -> int:
    return x.untyped_storage().nbytes()
