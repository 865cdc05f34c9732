"""Arguments of every operation that has a GPU kernel; another seed changes values alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

C, D = 16, 104
GEOMETRY = ([1, 1], [1, 1], [1, 1], 1)


def integers(low: int, high: int, shape: tuple[int, ...], g: torch.Generator) -> torch.Tensor:
    """Return values from low to high."""
    return torch.randint(low, high + 1, shape, generator=g)


def activation(g: torch.Generator) -> torch.Tensor:
    return torch.randn(2, C, 9, 7, generator=g)


def points(levels: int = 16) -> torch.Tensor:
    return torch.linspace(-D, D, levels).round().int().repeat(C, 1)


def statistics(g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, C, generator=g), torch.rand(2, C, generator=g) + 0.5


def uniform(g: torch.Generator) -> list[Any]:
    return [activation(g), torch.rand((), generator=g) + 0.1, integers(-7, 0, (), g).int(), 4]


def uniform_conv2d(g: torch.Generator) -> list[Any]:
    """Of what is kept of a layer nothing changes: what is captured keeps it too."""
    of_layer = torch.Generator().manual_seed(0)
    levels = integers(-128, 127, (24, C, 3, 3), of_layer).short()
    per_channel = torch.rand(24, generator=of_layer) * 0.01, torch.randn(24, generator=of_layer)
    codes = integers(0, 255, (1, C, 9, 7), g).to(torch.uint8)
    residual = torch.randn(1, 24, 9, 7, generator=g)
    return [
        [codes], torch.tensor(0.2), integers(-255, 0, (), g).int(), 8, levels, *per_channel,
        *GEOMETRY, "relu", None, residual, None, None, "none", 1, torch.float32, None, None, 8,
    ]  # fmt: skip


def subset_conv2d(g: torch.Generator) -> list[Any]:
    levels = integers(-7, 7, (24, C, 3, 3), g).short()
    per_channel = torch.rand(24, generator=g) * 0.01, torch.randn(24, generator=g)
    residual = torch.randn(2, 24, 9, 7, generator=g)
    return [
        [activation(g)], points(), *statistics(g), D, levels, *per_channel, *GEOMETRY, "relu",
        None, residual, "none", 1, torch.float16, True,
    ]  # fmt: skip


CASES: dict[str, Callable[[torch.Generator], list[Any]]] = {
    "channel_stats": lambda g: [activation(g)],
    "normalisation": lambda g: [
        torch.randn(2, C, generator=g) * 0.1, -torch.rand(2, C, generator=g),
        torch.rand(2, C, generator=g), torch.arange(C) % 3 == 0,
    ],
    "subset_encode": lambda g: [activation(g), points(), D, *statistics(g)],
    "subset_decode": lambda g: [integers(-D, D, (2, C, 9, 7), g).to(torch.int8), D, *statistics(g)],
    "subset_encode_packed": lambda g: [activation(g), points(), D, *statistics(g), 4],
    "subset_decode_packed": lambda g: [
        integers(0, 255, (2, 9, 7, C // 2), g).to(torch.uint8), points(), D, *statistics(g), 4,
    ],
    "subset_fake_quant": lambda g: [activation(g), points(), torch.arange(C) % 3 == 0, D],
    "uniform_fake_quant": uniform,
    "uniform_encode": uniform,
    "pack_codes": lambda g: [integers(0, 7, (5, 67), g).to(torch.uint8), 3],
    "unpack_codes": lambda g: [integers(0, 255, (5, 26), g).to(torch.uint8), 3, 67],
    "gemm": lambda g: [
        integers(-128, 127, (33, 50), g).to(torch.int8),
        integers(-128, 127, (20, 50), g).to(torch.int8), 8, True, torch.rand(20, generator=g),
        torch.randn(20, generator=g), True, torch.float16,
    ],
    "int_conv2d": lambda g: [
        integers(0, 255, (2, C, 5, 7), g).to(torch.uint8),
        integers(-128, 127, (6, C, 3, 3), g).to(torch.int8), *GEOMETRY,
    ],
    "shift_add_conv2d": lambda g: [
        integers(0, 3, (2, C, 5, 7), g).int(), torch.tensor([[0, 1, 2, 3]], dtype=torch.int32),
        integers(-128, 127, (6, C, 3, 3), g).to(torch.int8), *GEOMETRY,
    ],
    "refold_weights": lambda g: [
        integers(-255, 255, (6, C, 3, 3), g).short(), torch.rand(6, generator=g),
        torch.rand(2, C, generator=g), 1,
    ],
    "uniform_conv2d": uniform_conv2d,
    "uniform_conv2d_moments": uniform_conv2d,
    "subset_conv2d": subset_conv2d,
}  # fmt: skip


def arguments(name: str, seed: int) -> list[Any]:
    return CASES[name](torch.Generator().manual_seed(seed))


def that_change(name: str) -> list[bool]:
    """Return of every tensor, in order, whether another seed changes it."""
    pairs = zip(tree_leaves(arguments(name, 1)), tree_leaves(arguments(name, 2)), strict=True)
    return [not torch.equal(a, b) for a, b in pairs if isinstance(a, torch.Tensor)]
