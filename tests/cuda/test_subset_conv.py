"""subset_conv2d by tensor cores, bit for bit the reference; statistics to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ops.conv_cases import CASES, Case, levels_of, seeded

from ptqsr.ops.cuda import subset_conv
from ptqsr.ops.reference import fused_conv as reference
from ptqsr.ops.reference import subset as reference_subset
from ptqsr.points import UniversalSet

from .conftest import Emulated, OnGpu

pytestmark = pytest.mark.usefixtures("no_reference_in_its_place")

Kernels = Emulated | OnGpu

INTEGERS = torch.from_numpy(UniversalSet.preset("dfsq-107").integers).int()
D = 104
ARCHITECTURES = [75, 80, 90]

on_every_processor = pytest.mark.parametrize("architecture", ARCHITECTURES)

expected_of = reference.subset_conv2d


def arguments(
    case: Case,
    levels: int = 16,
    out: torch.dtype = torch.float16,
    residual: torch.dtype | None = None,
    activation: str = "relu",
    shuffle: int = 1,
    statistics: bool = True,
    encoded: bool = False,
    dtype: torch.dtype = torch.float16,
) -> list[Any]:
    """A layer in the order of the operation's arguments, of samples that differ much."""
    g = seeded(case)
    n, channels, kernels = case.x[0], case.x[1], case.weight[0]
    magnitudes = torch.logspace(-2, 1, channels).view(-1, 1, 1)
    samples = torch.logspace(0, 1, n).view(-1, 1, 1, 1)
    x = ((torch.randn(case.x, generator=g) * magnitudes + 0.3) * samples).to(dtype)
    nonnegative = torch.arange(channels) % 2 == 1
    x = torch.where(nonnegative.view(-1, 1, 1), x.relu(), x)
    pick = torch.rand(channels, len(INTEGERS), generator=g).argsort(1)[:, :levels]
    points = INTEGERS[pick].sort(1)[0]
    mean, scale = reference_subset.normalisation(*reference_subset.channel_stats(x), nonnegative)
    part = x
    if encoded:
        part = reference_subset.subset_encode(x.float(), points, D, mean, scale)
    shape = case.conv(x, torch.empty(case.weight)).shape
    added = None if residual is None else (torch.randn(shape, generator=g) * 4).to(residual)
    return [
        [part], points, mean, scale, D, levels_of(4, case.weight, g),
        torch.rand(kernels, generator=g) * 0.1, torch.randn(kernels, generator=g), *case.geometry,
        activation, torch.rand(kernels, generator=g) - 0.2 if activation == "leaky" else None,
        added, "relu" if residual else "none", shuffle, out, statistics,
    ]  # fmt: skip


def check(kernels: Kernels, given: list[Any]) -> None:
    found, *statistics = kernels.subset_conv2d(*given)
    expected, *expected_statistics = expected_of(*given)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    wrong = (found.double().nan_to_num(7e9) != expected.double().nan_to_num(7e9)).nonzero()
    assert len(wrong) == 0, (
        f"{len(wrong)} of {found.numel()}, first {wrong[0].tolist()}: {found[tuple(wrong[0])]} is "
        f"not {expected[tuple(wrong[0])]}"
    )
    mean, low, high = statistics
    assert torch.equal(low.nan_to_num(7e9), expected_statistics[1].nan_to_num(7e9))
    assert torch.equal(high.nan_to_num(7e9), expected_statistics[2].nan_to_num(7e9))
    if mean.numel():
        size = expected.float().abs().mean((2, 3)) * 1e-6 + 2.0**-24
        off = (mean - expected_statistics[0]).abs() > size
        assert not off.any() and torch.equal(mean.isnan(), expected_statistics[0].isnan())


LARGER = [
    Case("64", (2, 64, 18, 19), (64, 64, 3, 3), padding=(1, 1)),
    Case("many channels", (1, 140, 4, 5), (70, 140, 3, 3), padding=(1, 1)),
    Case("several tiles", (1, 16, 33, 40), (8, 16, 3, 3), padding=(1, 1)),
    Case("many 1x1", (2, 130, 5, 7), (20, 130, 1, 1)),
    Case("9x9", (1, 80, 4, 20), (4, 80, 9, 9), padding=(4, 4)),
]


@on_every_processor
@pytest.mark.parametrize("case", [*CASES, *LARGER], ids=str)
def test_shapes(kernels: Kernels, case: Case, architecture: int) -> None:
    kernels.emulate(len(case.name), architecture)
    check(kernels, arguments(case))


def test_weights_that_shared_memory_does_not_hold_take_the_reference(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subset_conv.reference, "subset_conv2d", expected_of)
    check(kernels, arguments(Case("25x25", (1, 5, 9, 9), (4, 5, 25, 25), padding=(12, 12))))


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("activation", ["none", "relu", "leaky"])
@pytest.mark.parametrize("residual", [None, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("out", [torch.float32, torch.float16], ids=str)
def test_epilogues(
    kernels: Kernels,
    out: torch.dtype,
    residual: torch.dtype | None,
    activation: str,
    statistics: bool,
) -> None:
    kernels.emulate(5, 80)
    case = Case("epilogue", (2, 16, 3, 5), (18, 16, 3, 3), padding=(1, 1))
    check(
        kernels,
        arguments(case, out=out, residual=residual, activation=activation, statistics=statistics),
    )


@on_every_processor
@pytest.mark.parametrize("shape", [(32, 16), (12, 5), (48, 16)])
def test_pixel_shuffle(kernels: Kernels, shape: tuple[int, int], architecture: int) -> None:
    kernels.emulate(3, architecture)
    o, c = shape
    case = Case("shuffle", (2, c, 5, 18), (o, c, 3, 3), padding=(1, 1))
    given = arguments(case, shuffle=2)
    check(kernels, given)


def test_inputs_encoded_before_and_here(kernels: Kernels) -> None:
    case = Case("parts", (2, 20, 6, 7), (9, 20, 3, 3), padding=(1, 1))
    given = arguments(case, dtype=torch.float32)
    codes = arguments(case, dtype=torch.float32, encoded=True)[0][0]
    given[0] = [given[0][0][:, :7], codes[:, 7:]]
    check(kernels, given)
    check(kernels, arguments(case, encoded=True))


def test_values_that_are_no_numbers(kernels: Kernels) -> None:
    case = Case("no numbers", (3, 16, 4, 5), (17, 16, 3, 3), padding=(1, 1))
    for value in (torch.nan, torch.inf, 1e9):
        given = arguments(case, activation="none")
        given[7][3] = value
        check(kernels, given)
    given = arguments(case)
    given[2][1, 2], given[3][1, 2] = torch.nan, torch.nan
    check(kernels, given)


def test_constant_channels(kernels: Kernels) -> None:
    case = Case("constant", (1, 16, 9, 20), (16, 16, 1, 1))
    given = arguments(case, activation="none")
    given[5][:8] = 0
    check(kernels, given)


def test_any_order_of_threads(kernels: Kernels) -> None:
    case = Case("any order", (2, 32, 17, 18), (24, 32, 3, 3), padding=(1, 1))
    given = arguments(case, residual=torch.float16)
    first = None
    for seed in range(6):
        kernels.emulate(seed, (75, 80, 90)[seed % 3])
        found = kernels.subset_conv2d(*given)
        first = first or found
        assert all(torch.equal(a, b) for a, b in zip(found, first, strict=True))


def test_without_bias(kernels: Kernels) -> None:
    given = arguments(CASES[0])
    given[7] = None
    check(kernels, given)


@on_every_processor
@pytest.mark.parametrize("levels", [2, 3, 8, 15, 16, 17])
def test_points_found_on_the_way(kernels: Kernels, levels: int, architecture: int) -> None:
    """Every half-step, where ties are, and beyond the last; 17 points have a pass of their own."""
    kernels.emulate(levels, architecture)
    case = Case("ties", (1, 32, 5, 88), (4, 32, 1, 1))
    given = arguments(case, levels=levels, activation="none")
    steps = torch.arange(-220, 220).view(1, 1, 5, 88) * 0.5
    given[0] = [steps.expand(case.x).half().contiguous(memory_format=torch.channels_last)]
    given[0][0][:, 5, 0, 0], given[0][0][:, 5, 0, 1] = torch.nan, -torch.inf
    given[2] = torch.zeros(1, 32)
    given[3] = torch.full((1, 32), float(D))
    given[2][0, 7] = 0.25
    given[3][0, 8:] = torch.rand(24, generator=seeded(case)) * 200
    given[3][0, 31] = 0
    given[5] = torch.ones_like(given[5])
    check(kernels, given)


@on_every_processor
@pytest.mark.parametrize("groups", [1, 3])
def test_many_channels_encoded_on_the_way(kernels: Kernels, groups: int, architecture: int) -> None:
    kernels.emulate(groups, architecture)
    weight = (9, 144 // groups, 3, 3)
    check(
        kernels, arguments(Case("rounds", (1, 144, 9, 17), weight, padding=(1, 1), groups=groups))
    )
