"""Shapes of convolutions that the tests share: ragged, grouped, strided, wide, one pixel."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Case:
    """One convolution; `geometry` is (stride, padding, dilation, groups)."""

    name: str
    x: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    geometry: tuple = field(init=False)

    def __post_init__(self) -> None:
        rest = [list(self.stride), list(self.padding), list(self.dilation), self.groups]
        object.__setattr__(self, "geometry", tuple(rest))

    def __str__(self) -> str:
        return self.name

    def conv(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """In float64, with PyTorch's own convolution."""
        return F.conv2d(x.double(), weight.double(), None, *self.geometry)


CASES = [
    Case("3x3", (2, 5, 7, 6), (4, 5, 3, 3), padding=(1, 1)),
    Case("one pixel", (3, 2, 1, 1), (5, 2, 3, 3), padding=(1, 1)),
    Case("one row", (1, 3, 1, 9), (2, 3, 3, 3), padding=(1, 1)),
    Case("1x1", (1, 17, 5, 3), (3, 17, 1, 1)),
    Case("groups", (2, 8, 6, 5), (12, 2, 3, 3), padding=(1, 1), groups=4),
    Case("depthwise", (1, 6, 5, 5), (6, 1, 3, 3), padding=(1, 1), groups=6),
    Case("stride", (2, 3, 9, 8), (4, 3, 3, 3), stride=(2, 3), padding=(1, 0)),
    Case("dilation", (1, 4, 9, 11), (2, 4, 3, 3), padding=(2, 3), dilation=(2, 3)),
    Case("5x3, wide padding", (2, 2, 3, 4), (3, 2, 5, 3), padding=(4, 2)),
    Case("taps wholly outside", (1, 2, 2, 2), (2, 2, 3, 3), padding=(4, 4)),
]


def seeded(case: Case) -> torch.Generator:
    return torch.Generator().manual_seed(len(case.name))


def integers(low: int, high: int, shape: tuple[int, ...], g: torch.Generator) -> torch.Tensor:
    """int32 from low to high, both included and both there."""
    values = torch.randint(low, high + 1, shape, generator=g, dtype=torch.int32)
    values.view(-1)[0], values.view(-1)[-1] = low, high
    return values


def levels_of(bits: int, shape: tuple[int, ...], g: torch.Generator) -> torch.Tensor:
    """int16 levels of weights: every kernel has 2^bits of them, anywhere, 0 among them."""
    top = (1 << bits) - 1
    lowest = torch.randint(-top, 1, (shape[0], 1, 1, 1), generator=g)
    lowest[0], lowest[-1] = -top, 0
    above = torch.randint(0, top + 1, shape, generator=g)
    above.view(shape[0], -1)[:, 0], above.view(shape[0], -1)[:, -1] = 0, top
    return (lowest + above).to(torch.int16)
