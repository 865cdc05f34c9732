"""Calibration statistics on the CPU."""

from __future__ import annotations

from types import ModuleType

import torch

from ptqsr.ops.cpu.kernel import kernel
from ptqsr.ops.reference import histogram as reference
from ptqsr.ops.schema.histogram import check_histogram


@kernel(reference.channel_histogram)
def channel_histogram(
    module: ModuleType,
    x: torch.Tensor,
    mean: torch.Tensor,
    ratio: torch.Tensor,
    denominator: int,
    bins_per_step: int,
) -> torch.Tensor:
    check_histogram(x, mean, ratio, denominator, bins_per_step)
    x, mean, ratio = x.contiguous(), mean.contiguous(), ratio.contiguous()
    n, c, h, w = x.shape
    counts = torch.zeros((c, 2 * denominator * bins_per_step), dtype=torch.int64)
    module.channel_histogram(
        x.data_ptr(),
        mean.data_ptr(),
        ratio.data_ptr(),
        counts.data_ptr(),
        n,
        c,
        h * w,
        denominator,
        bins_per_step,
        torch.get_num_threads(),
    )
    return counts
