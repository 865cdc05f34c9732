"""How large a network may be that a file asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ptqsr.errors import PtqsrError

# How much larger than a file's tensors its network may seem: a file that lacks a few is told which.
MAX_RATIO, ALWAYS_ELEMENTS, ALWAYS_PARAMETERS = 16, 1 << 24, 1 << 12


def most_elements(held: int) -> int:
    """Return how many elements a network may have for a file that holds so many."""
    return max(MAX_RATIO * held, ALWAYS_ELEMENTS)


@contextmanager
def bounded(elements: int, tensors: int) -> Iterator[None]:
    """Raise PtqsrError as soon as networks are built that are far larger than a file's tensors."""
    left, parameters = most_elements(elements), max(MAX_RATIO * tensors, ALWAYS_PARAMETERS)

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left, parameters
        left -= 0 if parameter is None else parameter.numel()
        parameters -= 1
        if min(left, parameters) < 0:
            raise PtqsrError("asks for a network far larger than its tensors; no weights do so")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
