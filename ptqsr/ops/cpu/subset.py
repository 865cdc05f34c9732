"""Subset quantization on the CPU."""

from __future__ import annotations

import torch

from ptqsr import native
from ptqsr.ops.reference import subset as reference
from ptqsr.ops.schema.library import layout, library
from ptqsr.ops.schema.subset import check_subset


@torch.library.register_kernel("ptqsr::subset_fake_quant", "cpu", lib=library)
def _subset_fake_quant(
    x: torch.Tensor, points: torch.Tensor, nonnegative: torch.Tensor, denominator: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    library_module = native.load()
    if library_module is None:
        return reference.subset_fake_quant(x, points, nonnegative, denominator)
    check_subset(x, points, nonnegative, denominator)
    memory_format = layout(x)
    x = x.contiguous(memory_format=memory_format)
    points, nonnegative = points.contiguous(), nonnegative.contiguous()
    n, c, h, w = x.shape
    y = torch.empty_like(x)
    mean, scale = x.new_zeros((n, c)), x.new_zeros((n, c))
    library_module.subset_fake_quant(
        x.data_ptr(),
        y.data_ptr(),
        points.data_ptr(),
        nonnegative.data_ptr(),
        mean.data_ptr(),
        scale.data_ptr(),
        n,
        c,
        h * w,
        memory_format is torch.channels_last,
        points.shape[1],
        denominator,
        native.cpu_isa(),
        torch.get_num_threads(),
    )
    return y, mean, scale
