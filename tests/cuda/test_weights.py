"""Folding of scales into weights by a GPU kernel, bit for bit against the reference."""

from __future__ import annotations

import pytest
import torch
from ops.conv_cases import CASES, Case, integers, seeded

from ptqsr.ops.reference import conv as reference

from .conftest import Emulated, OnGpu

Kernels = Emulated | OnGpu


def check(kernels: Kernels, *arguments: torch.Tensor, groups: int = 1) -> None:
    weight, out_scale = kernels.refold_weights(*arguments, groups)
    expected = reference.refold_weights(*arguments, groups)
    assert weight.dtype == torch.int8 and torch.equal(weight, expected[0])
    same = (out_scale == expected[1]) | (out_scale.isnan() & expected[1].isnan())
    assert out_scale.shape == expected[1].shape and same.all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_reference(kernels: Kernels, case: Case) -> None:
    g = seeded(case)
    levels = integers(-255, 255, case.weight, g).to(torch.int16)
    step = torch.rand(case.weight[0], generator=g) * 0.01 * (-1.0) ** torch.arange(case.weight[0])
    scale = torch.rand(case.x[:2], generator=g) * torch.logspace(-3, 3, case.x[1])
    check(kernels, levels, step, scale, groups=case.groups)


def test_more_weights_than_threads(kernels: Kernels) -> None:
    g = torch.Generator().manual_seed(0)
    for channels in (15, 50):
        levels = integers(-255, 255, (3, channels, 3, 3), g).to(torch.int16)
        check(kernels, levels, torch.rand(3, generator=g), torch.rand(2, channels, generator=g))
        spread = levels.contiguous(memory_format=torch.channels_last)
        check(kernels, spread, torch.ones(6)[::2], torch.rand(channels, 2, generator=g).t())


def test_zeros_infinities_and_nan(kernels: Kernels) -> None:
    levels = torch.tensor([[3, -5], [0, 0], [0, 7]], dtype=torch.int16).view(3, 2, 1, 1)
    tiny = 2.0**-149
    rows = [
        [0.0, 0.0], [1.0, torch.nan], [torch.nan, 1.0], [tiny, 0.0], [tiny, 127 * tiny],
        [torch.inf, 1.0], [1.0, torch.inf], [-2.0, 1e38], [3e38, 3e38], [-0.0, 1e-40],
    ]  # fmt: skip
    for step in (torch.ones(3), torch.tensor([-1.0, torch.nan, 0.0])):
        check(kernels, levels, step, torch.tensor(rows))


def test_ties_go_to_the_even_level(kernels: Kernels) -> None:
    levels = torch.tensor([127, 1, 3, -1, -3], dtype=torch.int16).view(1, 5, 1, 1)
    scale = torch.tensor([[1.0, 0.5, 0.5, 0.5, 0.5]])
    weight, _ = kernels.refold_weights(levels, torch.ones(1), scale, 1)
    assert weight.flatten().tolist() == [127, 0, 2, 0, -2]
    check(kernels, levels, torch.ones(1), scale)


def test_nothing(kernels: Kernels) -> None:
    for n, o, c in ((0, 4, 2), (2, 0, 3), (2, 3, 0)):
        levels = torch.zeros(o, c, 3, 3, dtype=torch.int16)
        check(kernels, levels, torch.ones(o), torch.ones(n, c))
