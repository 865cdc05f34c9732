"""What the tests of operations share."""

from __future__ import annotations

import torch

from ptqsr import native
from ptqsr.points import UniversalSet

SETS = {name: UniversalSet.preset(name) for name in ("dfsq-107", "dfsq-code", "sq-2word", "int8")}
ISAS = native.load().available_isas() if native.load() else []
SHAPES = [
    (1, 1, 1, 1),
    (3, 5, 1, 1),
    (2, 3, 1, 7),
    (2, 17, 5, 7),
    (1, 64, 33, 31),
    (1, 2, 150, 101),
]
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


def random_points(universal_set: UniversalSet, channels: int, levels: int) -> torch.Tensor:
    integers = torch.from_numpy(universal_set.integers).int()
    rows = [integers[torch.randperm(len(integers))[:levels]].sort()[0] for _ in range(channels)]
    return torch.stack(rows)


def activation(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Channels of many magnitudes, half of them after a ReLU, the first constant."""
    torch.manual_seed(seed)
    x = torch.randn(shape) * torch.logspace(-3, 3, shape[1]).view(1, -1, 1, 1) + 0.3
    nonnegative = torch.arange(shape[1]) % 2 == 1
    x = torch.where(nonnegative.view(1, -1, 1, 1), x.relu(), x)
    x[:, 0] = -0.7
    return x, nonnegative
