"""The library in which every operation is defined."""

from __future__ import annotations

import torch

library = torch.library.Library("ptqsr", "DEF")


def layout(x: torch.Tensor) -> torch.memory_format:
    """Return the layout in which an operation takes x and gives its result."""
    if x.ndim != 4 or x.is_contiguous():
        return torch.contiguous_format
    if x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def check_dtypes(operation: str, **expected: tuple[torch.Tensor, torch.dtype]) -> None:
    """Raise TypeError for the first tensor that has another dtype."""
    for name, (tensor, dtype) in expected.items():
        if tensor.dtype != dtype:
            raise TypeError(f"{operation}: {name} is {tensor.dtype}, must be {dtype}")


def check_device(operation: str, **tensors: torch.Tensor) -> None:
    """Raise ValueError where the tensors are on several devices."""
    if len({tensor.device for tensor in tensors.values()}) > 1:
        places = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        raise ValueError(f"{operation}: {places}; move them to one device")


def check_bits(operation: str, bits: int) -> None:
    """Raise ValueError for a width in which codes are not packed."""
    if not 2 <= bits <= 8:
        raise ValueError(f"{operation}: {bits} bits, must be from 2 to 8")
