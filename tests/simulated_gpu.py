"""Tensors that say they are on a GPU, and have values, on a machine that has none.

What mixes devices raises as it would there, and so does what takes a GPU's tensor for one of the
host's, as `.numpy()`. Results are those of the CPU, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

try:
    from torch.utils.backend_registration import (
        _DummyBackendModule,
        _setup_privateuseone_for_python_backend,
    )
except ImportError:  # an older PyTorch
    _DummyBackendModule, _setup_privateuseone_for_python_backend = object, None

NAME = "gpu"
aten = torch.ops.aten
# These take tensors of both.
BETWEEN = (aten.copy_.default, aten._to_copy.default)


class OnGpu(torch.Tensor):
    """A tensor of the simulated GPU; its values are `host`."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> OnGpu:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=gpu(),
        )
        made.host = host
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    # PyTorch asks for CUDA before it makes a tensor there, unless a mode of this key is active.
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Function(TorchFunctionMode):
    """What makes tensors in C++ before any operation is called."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and _is_gpu(kwargs.get("device")):
            return aten._to_copy(func(*args, **{**kwargs, "device": "cpu"}), device=gpu())
        if func is torch.Tensor.new_tensor and isinstance(args[0], OnGpu):
            return aten._to_copy(func(args[0].host, *args[1:], **kwargs), device=gpu())
        return func(*args, **kwargs)


class _Module(_DummyBackendModule):
    """`torch.gpu`. It draws no numbers, but other tests ask every device for its state."""

    def get_rng_state(self) -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: torch.Tensor) -> None:
        pass


@cache
def gpu() -> torch.device:
    """Return the simulated GPU, one of PyTorch's devices from here on."""
    if _setup_privateuseone_for_python_backend is None:
        pytest.skip("this PyTorch has no devices that are written in Python")
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    return torch.device(NAME, 0)


@contextmanager
def simulated_gpu() -> Iterator[torch.device]:
    """Give a device that networks and pictures can be moved to."""
    device = gpu()
    with _Dispatch(), _Function():
        yield device


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    there = [t for t in given if isinstance(t, OnGpu)]
    here = [t for t in given if not isinstance(t, OnGpu) and t.ndim > 0]
    if there and here and func not in BETWEEN:
        shapes = [tuple(t.shape) for t in here]
        raise RuntimeError(f"{func}: expected all tensors on one device; of {shapes} on the CPU")
    device = kwargs.get("device")
    to_gpu = bool(there) if device is None else _is_gpu(device)
    if func is aten.copy_.default:
        to_gpu = isinstance(args[0], OnGpu)
    if to_gpu and device is not None:
        kwargs = {**kwargs, "device": "cpu"}
    wrappers = {id(t.host): t for t in there}
    made = func(*_host(args), **_host(kwargs))

    def wrapped(t: torch.Tensor) -> torch.Tensor:
        if id(t) in wrappers:
            return wrappers[id(t)]
        return OnGpu(t) if to_gpu else t

    return tree_map_only(torch.Tensor, wrapped, made)


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _host(tree: Any) -> Any:
    return tree_map_only(OnGpu, lambda t: t.host, tree)
