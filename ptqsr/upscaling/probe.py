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

# Besides convolutions, views and pointwise operations: what keeps every value near its place.
LOCAL = {
    *(f"aten.{name}" for name in ("stack", "_to_copy", "_unsafe_view", "_prelu_kernel")),
    *(f"aten.{name}" for name in ("pixel_shuffle", "channel_shuffle")),
    # Where a subset is encoded, whoever took the statistics has seen the whole picture.
    *(f"ptqsr.{name}" for name in ("uniform_fake_quant", "uniform_encode", "subset_encode")),
}
PADDINGS = {f"aten.{name}" for name in ("constant_pad_nd", "reflection_pad2d", "replication_pad2d")}
# How many pixels of their input these look at to either side, where they enlarge.
RESIZE = {
    "aten.upsample_nearest2d": 0,
    "aten.upsample_bilinear2d": 1,
    "aten.upsample_bicubic2d": 2,
}


@dataclass(frozen=True)
class Extent:
    """Of a function from pictures to pictures.

    An output pixel depends on no input farther away than `radius` input pixels (an upper bound:
    the sum over all layers), unless `whole_picture`: then it depends on every pixel, through
    statistics of the whole picture, or holds an operation that is not known to be local.
    `peak_bytes` is the most memory its tensors take at one time, besides inputs and weights,
    `result_bytes` what is left of it. `convolutions` counts those that run.
    """

    radius: int
    whole_picture: bool
    peak_bytes: int
    result_bytes: int
    convolutions: int


def probe(
    function: Callable[..., torch.Tensor], *inputs: torch.Tensor
) -> tuple[Extent, torch.Tensor]:
    """Return the extent of a function whose inputs and weights are on the meta device, and what
    it gives.

    The first input gives the unit of `radius`.
    """
    watch = _Watch(inputs)
    with torch.no_grad(), watch:
        result = function(*inputs)
    left = 0 if result is inputs[0] else _bytes(result)
    found = Extent(ceil(watch.radius), watch.whole_picture, watch.peak, left, watch.convolutions)
    return found, result


class _Watch(TorchDispatchMode):
    def __init__(self, inputs: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self.height = inputs[0].shape[-2]
        self.radius, self.whole_picture = 0.0, False
        self.live, self.peak, self.convolutions = 0, 0, 0
        # How many tensors share each storage; inputs and weights are not counted.
        self.users: dict[int, int] = {}
        # The storages of what is made from the picture, and of the picture.
        self.pictures = {_storage(t) for t in inputs}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        fresh = self._count(inputs, outputs)
        if func is torch.ops.aten.convolution.default:
            # The library may reorder input and output for its kernels.
            self.peak = max(self.peak, self.live + _bytes(args[0]) + fresh)
            self.convolutions += 1
        if any(_storage(t) in self.pictures for t in inputs):
            self.pictures |= {_storage(t) for t in outputs}
            self._look(func, args, outputs)
        return result

    def _look(self, func: Any, args: tuple[Any, ...], outputs: list[torch.Tensor]) -> None:
        """Add how far an operation looks that reads what was made from the picture."""
        name = str(func.overloadpacket)
        if name == "aten.convolution":
            self._convolution(*args[:7])
        elif name in ("ptqsr.uniform_conv2d", "ptqsr.uniform_conv2d_moments"):
            x, weight, stride, padding, dilation = args[0][0], args[4], *args[7:10]
            self._convolution(x, weight, None, stride, padding, dilation, False)
            self.whole_picture |= name.endswith("moments")
        elif name == "aten.native_batch_norm":
            self.whole_picture |= args[5]  # else with statistics of its training
        elif name in RESIZE:
            self._resize(args, outputs[0], RESIZE[name])
        elif name in PADDINGS:
            self._shift(args[0], max(map(abs, args[1])))
        elif name == "aten.cat":
            self.whole_picture |= outputs[0].ndim == 4 and ([*args, 0][1] % 4) >= 2
        elif func.is_view:
            self._view(name, args, outputs)
        elif not (torch.Tag.pointwise in func.tags or name in LOCAL):
            self.whole_picture = True

    def _count(self, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> int:
        """Add what was made anew to the memory in use; return its bytes."""
        old = {_storage(t) for t in inputs}
        fresh = 0
        for tensor in outputs:
            key, size = _storage(tensor), _bytes(tensor)
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
            self.pictures.discard(key)
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
        # Tiles would begin anywhere between the strides.
        self.whole_picture |= (max(stride) > 1 and not transposed) or x.shape[-2] < self.height
        # In input pixels of this layer, then of the picture.
        taps = max((k - 1) * d for k, d in zip(weight.shape[2:], dilation, strict=True))
        reach = taps / max(stride) if transposed else ceil(taps / 2)
        self.radius += reach * self.height / max(1, x.shape[-2])

    def _view(self, name: str, args: tuple[Any, ...], outputs: list[torch.Tensor]) -> None:
        """Add how far a view moves pixels, where it keeps the picture's shape."""
        x = args[0]
        given = dict(zip(("dim", "start", "stop", "step"), args[1:], strict=False))
        if x.ndim != 4:
            return  # on the way to another shape: pixel shuffles, groups of channels
        if name == "aten.slice" and given.get("dim", 0) % 4 >= 2:
            start = given.get("start") or 0
            spread = 1 in outputs[0].shape[2:] and 1 not in x.shape[2:]  # over all others
            self.whole_picture |= start < 0 or given.get("step", 1) > 1 or spread
            self._shift(x, abs(start))
        elif name in ("aten.select", "aten.expand", "aten.permute", "aten.transpose", "aten.t"):
            # One row or column for all others, or one for the other.
            kept = all(out.ndim == 4 and out.shape[2:] == x.shape[2:] for out in outputs)
            turned = name in ("aten.permute", "aten.transpose") and x.shape[2] == x.shape[3]
            self.whole_picture |= not kept or turned
        elif name in ("aten.as_strided", "aten.unfold", "aten.diagonal"):
            self.whole_picture = True

    def _shift(self, x: torch.Tensor, pixels: int) -> None:
        self.radius += pixels * self.height / max(1, x.shape[-2])

    def _resize(self, args: tuple[Any, ...], out: torch.Tensor, reach: int) -> None:
        x = args[0]
        uneven = any(large % small for large, small in zip(out.shape[2:], x.shape[2:], strict=True))
        self.whole_picture |= uneven or (reach > 0 and args[2])  # its corners are aligned
        self.radius += reach * self.height / max(1, x.shape[-2])


def _bytes(x: torch.Tensor) -> int:
    return x.untyped_storage().nbytes()


def _storage(x: torch.Tensor) -> int:
    return x.untyped_storage()._cdata
