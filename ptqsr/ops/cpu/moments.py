"""How the values of samples and channels spread, on the CPU."""

from __future__ import annotations

from types import ModuleType

import torch

from ptqsr import native
from ptqsr.ops.cpu.kernel import kernel
from ptqsr.ops.reference import moments as reference
from ptqsr.ops.schema.library import layout
from ptqsr.ops.schema.moments import check_moments, empty_moments


@kernel(reference.channel_moments)
def channel_moments(module: ModuleType, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    check_moments(x)
    x = x.to(torch.float32).contiguous(memory_format=layout(x))
    mean, deviation = empty_moments(x)
    n, c, height, width = x.shape
    module.channel_moments(
        *(t.data_ptr() for t in (x, mean, deviation)),
        n,
        c,
        height * width,
        layout(x) == torch.channels_last,
        native.cpu_isa(),
        torch.get_num_threads(),
    )
    return mean, deviation
