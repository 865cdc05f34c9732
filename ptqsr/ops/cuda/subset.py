"""Subset quantization on GPUs.

Values of tensors are not looked at: points that do not ascend give wrong codes, no error, and a
packed index beyond the points counts as the last. More points than shared memory holds, some 1,000
in a channel, are found by the reference.
"""

from __future__ import annotations

import warnings
from functools import cache
from types import ModuleType

import torch

from ptqsr.ops.cuda.kernel import kernel, number_of, stream_of
from ptqsr.ops.cuda.packing import pack_codes
from ptqsr.ops.reference import subset as reference
from ptqsr.ops.schema.library import layout
from ptqsr.ops.schema.subset import (
    check_decode,
    check_decode_packed,
    check_encode,
    check_normalisation,
    check_stats,
    check_subset,
)


@kernel(reference.channel_stats)
def channel_stats(
    module: ModuleType, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_stats(x)
    x = x.contiguous(memory_format=layout(x))
    mean, low, high = (
        torch.zeros(x.shape[:2], dtype=torch.float32, device=x.device) for _ in range(3)
    )
    if not x.numel():
        return mean, low, high
    shape, number = _shape(x), number_of(x)
    workspace = x.new_empty(module.statistics_workspace(*shape, number), dtype=torch.uint8)
    module.channel_stats(
        x.data_ptr(), number, *shape, workspace.data_ptr(),
        mean.data_ptr(), low.data_ptr(), high.data_ptr(), stream_of(x),
    )  # fmt: skip
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
    given = [t.contiguous() for t in (mean, low, high, nonnegative)]
    out, scale = torch.empty_like(given[0]), torch.empty_like(given[0])
    addresses = [t.data_ptr() for t in (*given, out, scale)]
    module.normalisation(*addresses, *mean.shape, stream_of(mean))
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
    x = x.contiguous(memory_format=layout(x))
    out = torch.empty_like(x, dtype=torch.int8)
    _map(module, "point", x, points, denominator, mean, scale, out)
    return out


@kernel(reference.subset_decode)
def subset_decode(
    module: ModuleType, k: torch.Tensor, denominator: int, mean: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    check_decode(k, denominator, mean, scale)
    k = k.contiguous(memory_format=layout(k))
    mean, scale = mean.contiguous(), scale.contiguous()
    y = torch.empty_like(k, dtype=torch.float32)
    module.subset_decode(
        k.data_ptr(), *_shape(k), denominator,
        mean.data_ptr(), scale.data_ptr(), y.data_ptr(), stream_of(k),
    )  # fmt: skip
    return y


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
    x = x.contiguous(memory_format=torch.channels_last)
    indices = x.new_empty((n, h, w, c), dtype=torch.uint8)
    _map(module, "index", x, points, denominator, mean, scale, indices)
    return pack_codes(module, indices, bits)


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
    packed, points = packed.contiguous(), points.contiguous()
    mean, scale = mean.contiguous(), scale.contiguous()
    n, h, w, _ = packed.shape
    channels, levels = points.shape
    y = mean.new_empty((n, h, w, channels)).permute(0, 3, 1, 2)
    module.subset_decode_packed(
        packed.data_ptr(), n, channels, h * w, bits, points.data_ptr(), levels, denominator,
        mean.data_ptr(), scale.data_ptr(), y.data_ptr(), stream_of(packed),
    )  # fmt: skip
    return y


@kernel(reference.subset_fake_quant)
def subset_fake_quant(
    module: ModuleType,
    x: torch.Tensor,
    points: torch.Tensor,
    nonnegative: torch.Tensor,
    denominator: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_subset(x, points, nonnegative, denominator)
    x = x.contiguous(memory_format=layout(x))
    y = torch.empty_like(x)
    mean, scale = normalisation(module, *channel_stats(module, x), nonnegative)
    _map(module, "value", x, points, denominator, mean, scale, y)
    return y, mean, scale


def _map(
    module: ModuleType,
    what: str,
    x: torch.Tensor,
    points: torch.Tensor,
    denominator: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """Write for every value its "point", the "index" of that, or the "value" it stands for."""
    points, mean, scale = points.contiguous(), mean.contiguous(), scale.contiguous()
    taken = module.subset_map(
        what, x.data_ptr(), number_of(x), *_shape(x), points.data_ptr(), points.shape[1],
        denominator, mean.data_ptr(), scale.data_ptr(), out.data_ptr(), stream_of(x),
    )  # fmt: skip
    if taken:
        return
    _warn_of_the_reference(points.shape[1])
    indices = reference.codes_given(x, points, denominator, mean, scale)
    if what == "index":
        out.copy_(indices.permute(0, 2, 3, 1))
        return
    k = reference.points_of(indices, points)
    out.copy_(k if what == "point" else reference.values_given(k, denominator, mean, scale))


@cache
def _warn_of_the_reference(levels: int) -> None:
    warnings.warn(
        f"{levels} points in a channel are more than the GPU's kernels take: PyTorch's operations "
        "find them, slower",
        RuntimeWarning,
        stacklevel=2,
    )


def _shape(x: torch.Tensor) -> tuple[int, int, int, bool]:
    """Return what the kernels ask for: n, c, pixels, channels_last."""
    n, c, h, w = x.shape
    return n, c, h * w, layout(x) is torch.channels_last
