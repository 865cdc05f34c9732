"""Subset quantization by GPU kernels, against the reference on ragged shapes."""

from __future__ import annotations

import warnings
from functools import cache

import pytest
import torch

from ptqsr import ops
from ptqsr.ops.cuda import subset as cuda
from ptqsr.ops.reference import subset as reference

from .conftest import Emulated, OnGpu

Kernels = Emulated | OnGpu

SHAPES = [
    (2, 5, 7, 6),
    (1, 64, 9, 13),
    (3, 1, 1, 1),
    (1, 67, 5, 3),
    (2, 24, 1, 40),
    (1, 3, 80, 130),
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
D = 104

every_tensor = pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "channels_last"])


def tensor(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> torch.Tensor:
    g = torch.Generator().manual_seed(len(shape) + shape[1])
    x = torch.randn(shape, generator=g) * torch.logspace(-2, 2, shape[1]).view(-1, 1, 1)
    x[:, ::3] = x[:, ::3].relu()
    return x.to(dtype).contiguous(memory_format=layout)


def points(channels: int, levels: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(levels)
    rows = [torch.randperm(2 * D + 1, generator=g)[:levels].sort()[0] - D for _ in range(channels)]
    return torch.stack(rows).int()


@every_tensor
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics(
    kernels: Kernels, shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = tensor(shape, dtype, layout)
    found = kernels.channel_stats(x)
    _, low, high = reference.channel_stats(x)
    assert torch.equal(found[1], low) and torch.equal(found[2], high)
    bound = 2**-16 * x.float().abs().amax((2, 3))
    assert ((found[0].double() - x.double().mean((2, 3))).abs() <= bound).all()
    for seed in (2, 3):
        kernels.emulate(seed, 75)
        for a, b in zip(found, kernels.channel_stats(x), strict=True):
            assert torch.equal(a, b)
    for n in range(shape[0]):
        for a, b in zip(found, kernels.channel_stats(x[n : n + 1]), strict=True):
            assert torch.equal(a[n : n + 1], b)


@every_tensor
def test_constant_channels_are_their_mean(kernels: Kernels, layout: torch.memory_format) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 8, 1, 1, generator=g).expand(1, 8, 96, 90).contiguous(memory_format=layout)
    for found in kernels.channel_stats(x):
        assert torch.equal(found, x[:, :, 0, 0])


@every_tensor
def test_unsound_channels(kernels: Kernels, layout: torch.memory_format) -> None:
    x = tensor((2, 5, 7, 6), torch.float32, layout)
    x[0, 1, 2, 3], x[1, 0, 0, 0], x[1, 2, 6, 5], x[0, 4] = torch.nan, torch.inf, -(2.0**120), 7.5
    found = kernels.channel_stats(x)
    expected = reference.channel_stats(x)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.isnan(), b.isnan())
    nonnegative = torch.tensor([True, False, True, False, False])
    pairs = zip(
        kernels.normalisation(*expected, nonnegative),
        reference.normalisation(*expected, nonnegative),
        strict=True,
    )
    for a, b in pairs:
        assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1))


@every_tensor
@pytest.mark.parametrize("levels", [1, 2, 16, 107, 209])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_points(
    kernels: Kernels, dtype: torch.dtype, levels: int, layout: torch.memory_format
) -> None:
    for shape in SHAPES[:5]:
        x = tensor(shape, dtype, layout)
        p, nonnegative = points(shape[1], levels), torch.arange(shape[1]) % 3 == 0
        mean, scale = ops.normalisation(*ops.channel_stats(x), nonnegative)
        k = kernels.subset_encode(x, p, D, mean, scale)
        assert torch.equal(k, reference.subset_encode(x, p, D, mean, scale))
        assert k.stride() == x.stride()
        y = kernels.subset_decode(k, D, mean, scale)
        assert torch.equal(y, reference.subset_decode(k, D, mean, scale))
        y, mean, scale = kernels.subset_fake_quant(x, p, nonnegative, D)
        expected = reference.quantize_given(x.float(), p, D, mean, scale).to(dtype)
        assert y.dtype == dtype and torch.equal(y, expected) and y.stride() == x.stride()


@every_tensor
@pytest.mark.parametrize("levels, bits", [(1, 2), (4, 2), (7, 3), (16, 4), (29, 5), (209, 8)])
def test_packed(kernels: Kernels, levels: int, bits: int, layout: torch.memory_format) -> None:
    for shape, dtype in zip(SHAPES[:5], [*DTYPES, *DTYPES], strict=False):
        x = tensor(shape, dtype, layout)
        given = (points(shape[1], levels), D, *ops.normalisation(
            *ops.channel_stats(x), torch.arange(shape[1]) % 3 == 0
        ))  # fmt: skip
        packed = kernels.subset_encode_packed(x, *given, bits)
        assert torch.equal(packed, reference.subset_encode_packed(x, *given, bits))
        y = kernels.subset_decode_packed(packed, *given, bits)
        assert torch.equal(y, reference.subset_decode_packed(packed, *given, bits))
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_an_index_beyond_the_points_is_the_last(kernels: Kernels) -> None:
    p = points(5, 6)
    given = (p, D, torch.zeros(1, 5), torch.full((1, 5), float(D)), 3)
    packed = torch.full((1, 2, 3, 2), 255, dtype=torch.uint8)
    y = kernels.subset_decode_packed(packed, *given)
    assert torch.equal(y, p[:, -1].float().view(1, 5, 1, 1).expand(1, 5, 2, 3))


@every_tensor
def test_values_on_thresholds(kernels: Kernels, layout: torch.memory_format) -> None:
    """Ties, zeros of both signs, infinities and NaN."""
    p = points(4, 16)
    t = ops.thresholds(p)
    near = [t, torch.nextafter(t, t + 1), torch.nextafter(t, t - 1), (p[:, 1:] + p[:, :-1]) / 2]
    special = torch.tensor([0.0, -0.0, 1e-45, -1e-45, torch.inf, -torch.inf, torch.nan, 1e38])
    x = torch.cat([*near, special.repeat(4, 1)], 1).view(1, 4, 4, -1)
    x = x.contiguous(memory_format=layout)
    mean, scale = torch.zeros(1, 4), torch.full((1, 4), float(D))
    k = kernels.subset_encode(x, p, D, mean, scale)
    assert torch.equal(k, reference.subset_encode(x, p, D, mean, scale))
    packed = kernels.subset_encode_packed(x, p, D, mean, scale, 4)
    assert torch.equal(packed, reference.subset_encode_packed(x, p, D, mean, scale, 4))


def test_more_points_than_shared_memory_holds(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found by the reference, with one warning for each such number."""
    monkeypatch.setattr(
        cuda, "_warn_of_the_reference", cache(cuda._warn_of_the_reference.__wrapped__)
    )
    nonnegative, d = torch.tensor([True, False, False]), 9000
    for layout, dtype, levels, beyond in (
        (torch.contiguous_format, torch.float32, 4000, False),
        (torch.contiguous_format, torch.float32, 8191, True),
        (torch.channels_last, torch.float32, 2000, False),
        (torch.channels_last, torch.float16, 1001, False),
        (torch.channels_last, torch.float16, 1100, True),
        (torch.channels_last, torch.bfloat16, 2000, True),
    ):
        x = tensor((2, 3, 7, 6), dtype, layout)
        p = torch.arange(levels).repeat(3, 1).int() * 2 - levels + torch.arange(3).view(3, 1).int()
        for is_new in (True, False):
            kernels.emulate(levels, 75 if is_new else 80)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                y, mean, scale = kernels.subset_fake_quant(x, p, nonnegative, d)
            warned = [str(w.message) for w in caught if "points in a channel" in str(w.message)]
            assert len(warned) == (beyond and is_new)
            expected = reference.quantize_given(x.float(), p, d, mean, scale).to(dtype)
            assert y.dtype == dtype and torch.equal(y, expected) and y.stride() == x.stride()


def test_addresses_that_are_not_aligned(kernels: Kernels) -> None:
    for shape in ((1, 8, 4, 4), (1, 7, 5, 3)):
        for dtype in DTYPES:
            count = shape[1] * shape[2] * shape[3]
            x = torch.randn(count + 1).to(dtype)[1:].view(shape)
            mean, low, high = kernels.channel_stats(x)
            again = kernels.channel_stats(x.clone())
            assert torch.equal(mean, again[0]) and torch.equal(low, again[1])
            assert torch.equal(high, again[2])
            p = points(shape[1], 16)
            given = ops.normalisation(mean, low, high, torch.zeros(shape[1]).bool())
            k = kernels.subset_encode(x, p, D, *given)
            assert torch.equal(k, reference.subset_encode(x, p, D, *given))


def test_nothing(kernels: Kernels) -> None:
    x = torch.zeros(0, 3, 4, 4)
    assert [t.shape for t in kernels.channel_stats(x)] == [(0, 3)] * 3
    y, mean, scale = kernels.subset_fake_quant(x, points(3, 4), torch.zeros(3).bool(), D)
    assert y.shape == x.shape and mean.shape == scale.shape == (0, 3)
    for n, c, h, w in ((0, 3, 4, 4), (2, 3, 0, 4), (2, 0, 3, 3)):
        given = (points(3, 4)[:c], D, torch.zeros(n, c), torch.ones(n, c))
        packed = kernels.subset_encode_packed(torch.zeros(n, c, h, w), *given, 2)
        assert packed.shape == (n, h, w, -(-c // 4))
        assert kernels.subset_decode_packed(packed, *given, 2).shape == (n, c, h, w)
