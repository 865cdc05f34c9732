"""Uniform quantization on GPUs.

Values of tensors are not looked at: a step or a lowest level out of range gives wrong results, no
error.
"""

from __future__ import annotations

from types import ModuleType

import torch

from ptqsr.ops.cuda.kernel import kernel, number_of, stream_of
from ptqsr.ops.reference import uniform as reference
from ptqsr.ops.schema.library import layout
from ptqsr.ops.schema.uniform import check_uniform


@kernel(reference.uniform_fake_quant)
def uniform_fake_quant(
    module: ModuleType, x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    check_uniform("uniform_fake_quant", x, step, lowest, bits)
    x = x.contiguous(memory_format=layout(x))
    y = torch.empty_like(x)
    _map(module, "value", x, step, lowest, bits, None, y)
    return y


@kernel(reference.uniform_encode)
def uniform_encode(
    module: ModuleType, x: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    check_uniform("uniform_encode", x, step, lowest, bits)
    return encoded(module, x, step, lowest, bits, None)


def encoded(
    module: ModuleType,
    x: torch.Tensor,
    step: torch.Tensor,
    lowest: torch.Tensor,
    bits: int,
    levels: torch.Tensor | None,
) -> torch.Tensor:
    """Return codes, with one step, lowest level and number of levels for x or for each sample."""
    x = x.contiguous(memory_format=layout(x))
    codes = torch.empty_like(x, dtype=torch.uint8)
    _map(module, "code", x, step, lowest, bits, levels, codes)
    return codes


def _map(
    module: ModuleType,
    what: str,
    x: torch.Tensor,
    step: torch.Tensor,
    lowest: torch.Tensor,
    bits: int,
    levels: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """Write for every value its "code", or the "value" that stands for."""
    samples = step.numel()
    module.uniform_map(
        what, x.data_ptr(), number_of(x), samples, x.numel() // max(samples, 1), step.data_ptr(),
        lowest.data_ptr(), 0 if levels is None else levels.data_ptr(), bits, out.data_ptr(),
        stream_of(x),
    )  # fmt: skip
