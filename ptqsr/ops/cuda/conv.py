"""What convolutions of quantized tensors take and are checked against, on GPUs."""

from __future__ import annotations

from types import ModuleType

import torch

from ptqsr.ops.cuda.kernel import kernel, stream_of
from ptqsr.ops.reference import conv as reference
from ptqsr.ops.schema.conv import check_refold


@kernel(reference.refold_weights)
def refold_weights(
    module: ModuleType, levels: torch.Tensor, step: torch.Tensor, scale: torch.Tensor, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    check_refold(levels, step, scale, groups)
    levels, step, scale = levels.contiguous(), step.contiguous(), scale.contiguous()
    (n, channels), (kernels, _, height, width) = scale.shape, levels.shape
    weight = levels.new_empty((n, *levels.shape), dtype=torch.int8)
    out_scale = scale.new_empty((n, kernels))
    module.refold_weights(
        *(t.data_ptr() for t in (levels, step, scale, weight, out_scale)),
        n, kernels, channels, height * width, groups, stream_of(levels),
    )  # fmt: skip
    return weight, out_scale
