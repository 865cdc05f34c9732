"""How the operations get their CUDA kernels."""

from __future__ import annotations

from collections.abc import Callable
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
    none, `reference` stands in.
    """

    def register(function: Function) -> Function:
        def run(*arguments: Any) -> Any:
            module = native.cuda()
            if module is None:
                return reference(*arguments)
            with torch.cuda.device(_device(arguments)):
                return function(module, *arguments)

        name = function.__name__
        KERNELS[name] = function
        torch.library.register_kernel(f"ptqsr::{name}", "cuda", run, lib=library)
        return function

    return register


def stream_of(x: torch.Tensor) -> int:
    """Return the address of the stream on which work for a tensor goes; 0 on the host."""
    return torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0


def number_of(x: torch.Tensor) -> str:
    """Return what the kernels call a tensor's dtype."""
    return str(x.dtype).removeprefix("torch.")


def _device(arguments: tuple[Any, ...]) -> torch.device:
    first = arguments[0]
    tensor = first[0] if isinstance(first, (list, tuple)) else first
    return tensor.device
