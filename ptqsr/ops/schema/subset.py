"""Operations of subset quantization."""

from __future__ import annotations

import torch

from ptqsr.ops.schema.library import check_bits, check_device, check_dtypes, layout, library
from ptqsr.ops.schema.packing import packed_bytes

# Up to here float32 holds every threshold, a half-integer, exactly.
MAX_DENOMINATOR = 1 << 22
# Up to here a point is an int8, and so can be encoded.
MAX_INT8_DENOMINATOR = 127

library.define(
    "subset_fake_quant(Tensor x, Tensor points, Tensor nonnegative, int denominator)"
    " -> (Tensor y, Tensor mean, Tensor scale)"
)


@torch.library.register_fake("ptqsr::subset_fake_quant", lib=library)
def _subset_fake_quant(
    x: torch.Tensor, points: torch.Tensor, nonnegative: torch.Tensor, denominator: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_subset(x, points, nonnegative, denominator)
    statistics = x.new_empty(x.shape[:2])
    return torch.empty_like(x, memory_format=layout(x)), statistics, statistics.clone()


def check_subset(
    x: torch.Tensor, points: torch.Tensor, nonnegative: torch.Tensor, denominator: int
) -> None:
    """Raise ValueError or TypeError where dtypes, shapes or devices do not fit."""
    if x.ndim != 4 or points.ndim != 2 or points.shape[1] < 1:
        raise ValueError(
            f"subset_fake_quant: x {tuple(x.shape)} must be [N, C, H, W] and points "
            f"{tuple(points.shape)} [C, levels]"
        )
    channels = x.shape[1]
    if points.shape[0] != channels or tuple(nonnegative.shape) != (channels,):
        raise ValueError(
            f"subset_fake_quant: x has {channels} channels, but points have shape "
            f"{tuple(points.shape)} and nonnegative {tuple(nonnegative.shape)}"
        )
    check_dtypes(
        "subset_fake_quant",
        x=(x, torch.float32),
        points=(points, torch.int32),
        nonnegative=(nonnegative, torch.bool),
    )
    check_device("subset_fake_quant", x=x, points=points, nonnegative=nonnegative)
    _check_denominator("subset_fake_quant", denominator, MAX_DENOMINATOR)


def _check_denominator(operation: str, denominator: int, largest: int) -> None:
    if not 1 <= denominator <= largest:
        raise ValueError(f"{operation}: denominator is {denominator}, must be from 1 to {largest}")


library.define("channel_stats(Tensor x) -> (Tensor mean, Tensor low, Tensor high)")


@torch.library.register_fake("ptqsr::channel_stats", lib=library)
def _channel_stats(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_stats(x)
    mean = x.new_empty(x.shape[:2])
    return mean, mean.clone(), mean.clone()


def check_stats(x: torch.Tensor) -> None:
    """Raise ValueError or TypeError for what is no activation."""
    if x.ndim != 4:
        raise ValueError(f"channel_stats: x {tuple(x.shape)} must be [N, C, H, W]")
    check_dtypes("channel_stats", x=(x, torch.float32))


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
    shapes = [tuple(tensor.shape) for tensor in (mean, low, high)]
    alike = shapes[0] == shapes[1] == shapes[2]
    if mean.ndim != 2 or not alike or tuple(nonnegative.shape) != shapes[0][1:]:
        raise ValueError(
            f"normalisation: mean, low, high {shapes} must be [N, C] and nonnegative "
            f"{tuple(nonnegative.shape)} [C]"
        )
    check_dtypes(
        "normalisation",
        mean=(mean, torch.float32),
        low=(low, torch.float32),
        high=(high, torch.float32),
        nonnegative=(nonnegative, torch.bool),
    )
    check_device("normalisation", mean=mean, low=low, high=high, nonnegative=nonnegative)


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
    if x.ndim != 4:
        raise ValueError(f"{operation}: x {tuple(x.shape)} must be [N, C, H, W]")
    _check_points(operation, points, x.shape[1], bits)
    check_dtypes(operation, x=(x, torch.float32))
    _check_given(operation, x, denominator, mean, scale, x.shape[0], x.shape[1])
    check_device(operation, x=x, points=points)


def _check_points(operation: str, points: torch.Tensor, channels: int, bits: int | None) -> None:
    if points.ndim != 2 or points.shape[0] != channels or points.shape[1] < 1:
        raise ValueError(
            f"{operation}: points {tuple(points.shape)} must be [C, levels] for {channels} channels"
        )
    check_dtypes(operation, points=(points, torch.int32))
    if bits is not None:
        check_bits(operation, bits)
        if points.shape[1] > 1 << bits:
            raise ValueError(f"{operation}: {points.shape[1]} points are too many for {bits} bits")


def _check_given(
    operation: str,
    data: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    samples: int,
    channels: int,
) -> None:
    for name, tensor in (("mean", mean), ("scale", scale)):
        if tuple(tensor.shape) != (samples, channels):
            raise ValueError(
                f"{operation}: {name} {tuple(tensor.shape)} must be [N, C] = [{samples}, "
                f"{channels}] for data of shape {tuple(data.shape)}"
            )
    check_dtypes(operation, mean=(mean, torch.float32), scale=(scale, torch.float32))
    check_device(operation, data=data, mean=mean, scale=scale)
    _check_denominator(operation, denominator, MAX_INT8_DENOMINATOR)


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
    if k.ndim != 4:
        raise ValueError(f"subset_decode: k {tuple(k.shape)} must be [N, C, H, W]")
    check_dtypes("subset_decode", k=(k, torch.int8))
    _check_given("subset_decode", k, denominator, mean, scale, k.shape[0], k.shape[1])


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
    operation = "subset_decode_packed"
    channels = points.shape[0] if points.ndim else 0
    _check_points(operation, points, channels, bits)
    if packed.ndim != 4 or packed.shape[3] != packed_bytes(channels, bits):
        raise ValueError(
            f"{operation}: packed {tuple(packed.shape)} must be [N, H, W, "
            f"{packed_bytes(channels, bits)}] for {channels} channels of {bits} bits"
        )
    check_dtypes(operation, packed=(packed, torch.uint8))
    _check_given(operation, packed, denominator, mean, scale, packed.shape[0], channels)
    check_device(operation, packed=packed, points=points)
