"""Operations of subset quantization."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.checks import (
    MAX_INT8_DENOMINATOR,
    NCHW,
    NUMBERS,
    expect,
    expect_bits,
    expect_one_device,
    expect_points,
    expect_within,
)
from ptqsr.ops.schema.library import layout, library
from ptqsr.ops.schema.packing import packed_bytes

# Up to here float32 holds every threshold, a half-integer, exactly.
MAX_DENOMINATOR = 1 << 22

library.define(
    "subset_fake_quant(Tensor x, Tensor points, Tensor nonnegative, int denominator)"
    " -> (Tensor y, Tensor mean, Tensor scale)"
)


@torch.library.register_fake("ptqsr::subset_fake_quant", lib=library)
def _subset_fake_quant(
    x: torch.Tensor, points: torch.Tensor, nonnegative: torch.Tensor, denominator: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_subset(x, points, nonnegative, denominator)
    statistics = x.new_empty(x.shape[:2], dtype=torch.float32)
    return torch.empty_like(x, memory_format=layout(x)), statistics, statistics.clone()


def check_subset(
    x: torch.Tensor, points: torch.Tensor, nonnegative: torch.Tensor, denominator: int
) -> None:
    """Raise ValueError or TypeError where dtypes, shapes or devices do not fit."""
    op = "subset_fake_quant"
    expect(op, "x", x, NUMBERS, NCHW)
    expect_points(op, points, x.shape[1], denominator, MAX_DENOMINATOR)
    expect(op, "nonnegative", nonnegative, torch.bool, (x.shape[1],))
    expect_one_device(op, x=x, points=points, nonnegative=nonnegative)


library.define("channel_stats(Tensor x) -> (Tensor mean, Tensor low, Tensor high)")


@torch.library.register_fake("ptqsr::channel_stats", lib=library)
def _channel_stats(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_stats(x)
    mean = x.new_empty(x.shape[:2], dtype=torch.float32)
    return mean, mean.clone(), mean.clone()


def check_stats(x: torch.Tensor) -> None:
    """Raise ValueError or TypeError for what is no activation."""
    expect("channel_stats", "x", x, NUMBERS, NCHW)


library.define(
    "normalisation(Tensor mean, Tensor low, Tensor high, Tensor nonnegative)"
    " -> (Tensor mean, Tensor scale)"
)


@torch.library.register_fake("ptqsr::normalisation", lib=library)
def _normalisation(
    mean: torch.Tensor, low: torch.Tensor, high: torch.Tensor, nonnegative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    check_normalisation(mean, low, high, nonnegative)
    return mean.new_empty(mean.shape), mean.new_empty(mean.shape)


def check_normalisation(
    mean: torch.Tensor, low: torch.Tensor, high: torch.Tensor, nonnegative: torch.Tensor
) -> None:
    """Raise ValueError or TypeError where dtypes, shapes or devices do not fit."""
    op = "normalisation"
    expect(op, "mean", mean, torch.float32, ("N", "C"))
    expect(op, "low", low, torch.float32, mean.shape)
    expect(op, "high", high, torch.float32, mean.shape)
    expect(op, "nonnegative", nonnegative, torch.bool, mean.shape[1:])
    expect_one_device(op, mean=mean, low=low, high=high, nonnegative=nonnegative)


library.define(
    "subset_encode(Tensor x, Tensor points, int denominator, Tensor mean, Tensor scale) -> Tensor"
)


@torch.library.register_fake("ptqsr::subset_encode", lib=library)
def _subset_encode(
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    check_encode("subset_encode", x, points, denominator, mean, scale)
    return torch.empty_like(x, dtype=torch.int8, memory_format=layout(x))


library.define(
    "subset_encode_packed(Tensor x, Tensor points, int denominator, Tensor mean, Tensor scale,"
    " int bits) -> Tensor"
)


@torch.library.register_fake("ptqsr::subset_encode_packed", lib=library)
def _subset_encode_packed(
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    bits: int,
) -> torch.Tensor:
    check_encode("subset_encode_packed", x, points, denominator, mean, scale, bits)
    n, c, h, w = x.shape
    return x.new_empty((n, h, w, packed_bytes(c, bits)), dtype=torch.uint8)


def check_encode(
    operation: str,
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    bits: int | None = None,
) -> None:
    """Raise ValueError or TypeError where dtypes, shapes or devices do not fit."""
    expect(operation, "x", x, NUMBERS, NCHW)
    expect_points(operation, points, x.shape[1], denominator, MAX_INT8_DENOMINATOR)
    if bits is not None:
        _expect_few(operation, points, bits)
    _expect_scales(operation, mean, scale, x.shape[0], x.shape[1])
    expect_one_device(operation, x=x, points=points, mean=mean, scale=scale)


def _expect_few(operation: str, points: torch.Tensor, bits: int) -> None:
    """Raise ValueError where codes of some bits do not count the points."""
    expect_bits(operation, bits)
    if points.shape[1] > 1 << bits:
        raise ValueError(f"{operation}: {points.shape[1]} points are too many for {bits} bits")


def _expect_scales(
    operation: str, mean: torch.Tensor, scale: torch.Tensor, samples: int, channels: int
) -> None:
    """Raise for what are no means and scales of samples and channels."""
    expect(operation, "mean", mean, torch.float32, (samples, channels))
    expect(operation, "scale", scale, torch.float32, (samples, channels))


library.define("subset_decode(Tensor k, int denominator, Tensor mean, Tensor scale) -> Tensor")


@torch.library.register_fake("ptqsr::subset_decode", lib=library)
def _subset_decode(
    k: torch.Tensor, denominator: int, mean: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    check_decode(k, denominator, mean, scale)
    return torch.empty_like(k, dtype=torch.float32, memory_format=layout(k))


def check_decode(
    k: torch.Tensor, denominator: int, mean: torch.Tensor, scale: torch.Tensor
) -> None:
    """Raise ValueError or TypeError where dtypes, shapes or devices do not fit."""
    op = "subset_decode"
    expect(op, "k", k, torch.int8, NCHW)
    expect_within(op, "denominator", denominator, 1, MAX_INT8_DENOMINATOR)
    _expect_scales(op, mean, scale, k.shape[0], k.shape[1])
    expect_one_device(op, k=k, mean=mean, scale=scale)


library.define(
    "subset_decode_packed(Tensor packed, Tensor points, int denominator, Tensor mean,"
    " Tensor scale, int bits) -> Tensor"
)


@torch.library.register_fake("ptqsr::subset_decode_packed", lib=library)
def _subset_decode_packed(
    packed: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    bits: int,
) -> torch.Tensor:
    check_decode_packed(packed, points, denominator, mean, scale, bits)
    n, h, w, _ = packed.shape
    y = packed.new_empty((n, len(points), h, w), dtype=torch.float32)
    return y.contiguous(memory_format=torch.channels_last)


def check_decode_packed(
    packed: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    bits: int,
) -> None:
    """Raise ValueError or TypeError where dtypes, shapes or devices do not fit."""
    op = "subset_decode_packed"
    channels = points.shape[0] if points.ndim else 0
    expect_points(op, points, channels, denominator, MAX_INT8_DENOMINATOR)
    _expect_few(op, points, bits)
    row = packed_bytes(channels, bits)
    what = f"packed, {channels} channels of {bits} bits,"
    expect(op, what, packed, torch.uint8, ("N", "H", "W", row))
    _expect_scales(op, mean, scale, packed.shape[0], channels)
    expect_one_device(op, packed=packed, points=points, mean=mean, scale=scale)
