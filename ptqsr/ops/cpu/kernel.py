"""How the operations get their native CPU kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ptqsr import native
from ptqsr.ops.schema.library import library

Function = Callable[..., Any]


def kernel(reference: Function) -> Callable[[Function], Function]:
    """Return a decorator that makes a function the CPU kernel of the operation of its name.

    It is given the native module, then the operation's arguments; where there is no such module
    `reference` stands in.
    """

    def register(function: Function) -> Function:
        def run(*arguments: Any) -> Any:
            module = native.load()
            return reference(*arguments) if module is None else function(module, *arguments)

        # A call, not a decorator: that would leave None in place of the function.
        torch.library.register_kernel(f"ptqsr::{function.__name__}", "cpu", run, lib=library)
        return function

    return register
