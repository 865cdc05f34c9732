"""How the operations get their CUDA kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch

from ptqsr import native
from ptqsr.ops.schema.library import library

Function = Callable[..., Any]

# By the operation's name: functions of a module with the kernels, then the operation's arguments.
# The emulation's module takes tensors in the host's memory.
KERNELS: dict[str, Function] = {}


def kernel(reference: Function) -> Callable[[Function], Function]:
    """Return a decorator that makes a function the CUDA kernel of the operation of its name.

    It is given the module with the kernels, then the operation's arguments; where this build has
    none for a tensor's GPU, `reference` stands in, and a warning says why.
    """

    def register(function: Function) -> Function:
        def run(*arguments: Any) -> Any:
            return call(function, reference, arguments)

        name = function.__name__
        KERNELS[name] = function
        torch.library.register_kernel(f"ptqsr::{name}", "cuda", run, lib=library)
        return function

    return register


def call(function: Function, reference: Function, arguments: tuple[Any, ...]) -> Any:
    """Run an operation on the GPU of its first tensor.

    Raises ValueError that names the shapes for more elements than kernels take.
    """
    device = _device(arguments)
    module = kernels_of(device)
    if module is None:
        return reference(*arguments)
    try:
        with torch.cuda.device(device):
            return function(module, *arguments)
    except OverflowError as error:
        shapes = ", ".join(str(tuple(t.shape)) for t in _tensors(arguments))
        raise ValueError(
            f"{error}, in tensors of shapes {shapes} or in the result; run fewer pictures at a "
            "time, or tiles"
        ) from None


@cache
def kernels_of(device: torch.device) -> ModuleType | None:
    """Return the module with kernels for a GPU; None, with a warning, where there is none."""
    major, minor = torch.cuda.get_device_capability(device)
    problem = native.cuda_problem(10 * major + minor)
    if problem is None:
        return native.cuda()
    _warn(problem)
    return None


@cache
def _warn(problem: str) -> None:
    """Say once why operations are slow; of missing native code `native.load` has spoken."""
    if native.load() is not None:
        warnings.warn(
            f"ptqsr's operations run on the GPU as PyTorch references, much slower: {problem}",
            RuntimeWarning,
            stacklevel=2,
        )


def stream_of(x: torch.Tensor) -> int:
    """Return the address of the stream on which work for a tensor goes; 0 on the host."""
    return torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0


def number_of(x: torch.Tensor) -> str:
    """Return what the kernels call a tensor's dtype."""
    return str(x.dtype).removeprefix("torch.")


def _device(arguments: tuple[Any, ...]) -> torch.device:
    return _tensors(arguments)[0].device


def _tensors(arguments: tuple[Any, ...]) -> list[torch.Tensor]:
    parts = [a if isinstance(a, (list, tuple)) else [a] for a in arguments]
    return [part for several in parts for part in several if isinstance(part, torch.Tensor)]
