"""Operations of uniform quantization."""

from __future__ import annotations

from typing import Any

import torch

from ptqsr.ops.schema.checks import NUMBERS, expect, expect_bits, expect_one_device
from ptqsr.ops.schema.library import layout, library

# Up to here rounding to a level is exact in float32.
LARGEST_LEVEL = 1 << 20

library.define("uniform_fake_quant(Tensor x, Tensor step, Tensor lowest, int bits) -> Tensor")
library.define("uniform_encode(Tensor x, Tensor step, Tensor lowest, int bits) -> Tensor")


@torch.library.register_fake("ptqsr::uniform_fake_quant", lib=library)
def _uniform_fake_quant(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    check_uniform("uniform_fake_quant", x, step, lowest, bits)
    return torch.empty_like(x, memory_format=layout(x))


@torch.library.register_fake("ptqsr::uniform_encode", lib=library)
def _uniform_encode(
    x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    check_uniform("uniform_encode", x, step, lowest, bits)
    return torch.empty_like(x, dtype=torch.uint8, memory_format=layout(x))


def check_uniform(
    operation: str, x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> None:
    """Raise ValueError or TypeError where dtypes, shapes, devices or values do not fit."""
    expect(operation, "x", x, NUMBERS, tuple(x.shape))
    expect(operation, "step", step, torch.float32, ())
    expect(operation, "lowest", lowest, torch.int32, ())
    expect_one_device(operation, x=x, step=step, lowest=lowest)
    expect_bits(operation, bits)
    check_grid(operation, step, lowest)


def check_grid(operation: str, step: torch.Tensor, lowest: torch.Tensor) -> None:
    """Raise ValueError for values of a step and a lowest level, or several, that make no grid."""
    if type(step) is not torch.Tensor or step.device.type != "cpu":
        return  # elsewhere the values would have to be waited for
    for one, least in zip(*each(step, lowest), strict=True):
        if not 0 < one < torch.inf or not -LARGEST_LEVEL <= least <= LARGEST_LEVEL:
            raise ValueError(
                f"{operation}: step is {one}, must be positive and finite; lowest is {least}, must "
                f"be from -{LARGEST_LEVEL} to {LARGEST_LEVEL}"
            )


def each(*values: torch.Tensor | int) -> list[list[Any]]:
    """Return numbers, of which the first is a tensor, as lists of its length."""
    first = values[0]
    assert isinstance(first, torch.Tensor)
    lists = [v.reshape(-1).tolist() if isinstance(v, torch.Tensor) else [v] for v in values]
    return [one * first.numel() if len(one) == 1 else one for one in lists]
