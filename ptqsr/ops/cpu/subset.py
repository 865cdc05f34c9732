"""Subset quantization on the CPU."""

from __future__ import annotations

from types import ModuleType

import torch

from ptqsr import native
from ptqsr.ops.cpu.kernel import kernel
from ptqsr.ops.reference import subset as reference
from ptqsr.ops.schema.library import layout
from ptqsr.ops.schema.packing import packed_bytes
from ptqsr.ops.schema.subset import (
    check_decode,
    check_decode_packed,
    check_encode,
    check_normalisation,
    check_stats,
    check_subset,
)


@kernel(reference.subset_fake_quant)
def subset_fake_quant(
    module: ModuleType,
    x: torch.Tensor,
    points: torch.Tensor,
    nonnegative: torch.Tensor,
    denominator: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_subset(x, points, nonnegative, denominator)
    dtype, x = x.dtype, x.to(torch.float32).contiguous(memory_format=layout(x))
    points, nonnegative = points.contiguous(), nonnegative.contiguous()
    y = torch.empty_like(x)
    mean, scale = x.new_zeros(x.shape[:2]), x.new_zeros(x.shape[:2])
    module.subset_fake_quant(
        x.data_ptr(),
        y.data_ptr(),
        points.data_ptr(),
        nonnegative.data_ptr(),
        mean.data_ptr(),
        scale.data_ptr(),
        *_shape(x),
        points.shape[1],
        denominator,
        native.cpu_isa(),
        torch.get_num_threads(),
    )
    return y.to(dtype), mean, scale


@kernel(reference.channel_stats)
def channel_stats(
    module: ModuleType, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_stats(x)
    x = x.to(torch.float32).contiguous(memory_format=layout(x))
    mean, low, high = (x.new_zeros(x.shape[:2]) for _ in range(3))
    module.channel_stats(
        x.data_ptr(),
        mean.data_ptr(),
        low.data_ptr(),
        high.data_ptr(),
        *_shape(x),
        native.cpu_isa(),
        torch.get_num_threads(),
    )
    return mean, low, high


@kernel(reference.normalisation)
def normalisation(
    module: ModuleType,
    mean: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
    nonnegative: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    check_normalisation(mean, low, high, nonnegative)
    mean, low, high = mean.contiguous(), low.contiguous(), high.contiguous()
    nonnegative = nonnegative.contiguous()
    out, scale = mean.new_empty(mean.shape), mean.new_empty(mean.shape)
    module.normalisation(
        mean.data_ptr(),
        low.data_ptr(),
        high.data_ptr(),
        nonnegative.data_ptr(),
        out.data_ptr(),
        scale.data_ptr(),
        *mean.shape,
    )
    return out, scale


@kernel(reference.subset_encode)
def subset_encode(
    module: ModuleType,
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    check_encode("subset_encode", x, points, denominator, mean, scale)
    x = x.to(torch.float32).contiguous(memory_format=layout(x))
    k = torch.empty_like(x, dtype=torch.int8)
    _encode(module, x, k, points, denominator, mean, scale, 0)
    return k


@kernel(reference.subset_encode_packed)
def subset_encode_packed(
    module: ModuleType,
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    bits: int,
) -> torch.Tensor:
    check_encode("subset_encode_packed", x, points, denominator, mean, scale, bits)
    n, c, h, w = x.shape
    x = x.to(torch.float32).contiguous(memory_format=torch.channels_last)
    packed = x.new_empty((n, h, w, packed_bytes(c, bits)), dtype=torch.uint8)
    _encode(module, x, packed, points, denominator, mean, scale, bits)
    return packed


def _encode(
    module: ModuleType,
    x: torch.Tensor,
    out: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    bits: int,
) -> None:
    points, mean, scale = points.contiguous(), mean.contiguous(), scale.contiguous()
    module.subset_encode(
        x.data_ptr(),
        out.data_ptr(),
        points.data_ptr(),
        mean.data_ptr(),
        scale.data_ptr(),
        *(_shape(x) if bits == 0 else _pixels_last(x)),
        points.shape[1],
        denominator,
        bits,
        native.cpu_isa(),
        torch.get_num_threads(),
    )


@kernel(reference.subset_decode)
def subset_decode(
    module: ModuleType, k: torch.Tensor, denominator: int, mean: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    check_decode(k, denominator, mean, scale)
    k = k.contiguous(memory_format=layout(k))
    mean, scale = mean.contiguous(), scale.contiguous()
    y = torch.empty_like(k, dtype=torch.float32)
    module.subset_decode(
        k.data_ptr(),
        y.data_ptr(),
        0,
        mean.data_ptr(),
        scale.data_ptr(),
        *_shape(k),
        0,
        denominator,
        0,
        torch.get_num_threads(),
    )
    return y


@kernel(reference.subset_decode_packed)
def subset_decode_packed(
    module: ModuleType,
    packed: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    bits: int,
) -> torch.Tensor:
    check_decode_packed(packed, points, denominator, mean, scale, bits)
    reference.check_ascending("subset_decode_packed", points, denominator)
    packed, points = packed.contiguous(), points.contiguous()
    mean, scale = mean.contiguous(), scale.contiguous()
    n, h, w, _ = packed.shape
    y = mean.new_empty((n, h, w, len(points))).permute(0, 3, 1, 2)
    module.subset_decode(
        packed.data_ptr(),
        y.data_ptr(),
        points.data_ptr(),
        mean.data_ptr(),
        scale.data_ptr(),
        *_pixels_last(y),
        points.shape[1],
        denominator,
        bits,
        torch.get_num_threads(),
    )
    return y


def _shape(x: torch.Tensor) -> tuple[int, int, int, bool]:
    """Return what the kernels ask for: n, c, pixels, channels_last."""
    n, c, h, w = x.shape
    return n, c, h * w, layout(x) is torch.channels_last


def _pixels_last(x: torch.Tensor) -> tuple[int, int, int, bool]:
    """Return the same of x that is taken as channels_last, though it may be nchw just as well."""
    return *_shape(x)[:3], True
