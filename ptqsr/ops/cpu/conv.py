"""Convolutions of quantized tensors on the CPU: each is one call of one native function."""

from __future__ import annotations

from typing import Any

import torch

from ptqsr import native
from ptqsr.ops.reference import conv as plain
from ptqsr.ops.reference import fused_conv as reference
from ptqsr.ops.schema.checks import Shape
from ptqsr.ops.schema.conv import check_int_conv, check_refold
from ptqsr.ops.schema.fused_conv import (
    check_subset_conv,
    check_uniform_conv,
    empty,
    empty_statistics,
)
from ptqsr.ops.schema.library import library

# The enumerations of csrc/include/ptqsr/conv.h.
SUBSET, UNIFORM, INTEGERS, UNSIGNED_INTEGERS = range(4)
ACTIVATIONS = {"none": 0, "relu": 1, "leaky": 2}
FLOATS, CODES, SUMS = range(3)


def int_conv2d(
    k: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    if native.load() is None:
        return plain.int_conv2d(k, weight, stride, padding, dilation, groups)
    shape = check_int_conv(k, weight, stride, padding, dilation, groups)
    call = _Call([k], shape, weight.to(torch.int16), (stride, padding, dilation, groups))
    call.number(encoding=INTEGERS if k.dtype == torch.int8 else UNSIGNED_INTEGERS, output=SUMS)
    return call.run("int_conv2d", empty(k, shape, torch.int32))


def refold_weights(
    levels: torch.Tensor, step: torch.Tensor, scale: torch.Tensor, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    library_module = native.load()
    if library_module is None:
        return plain.refold_weights(levels, step, scale, groups)
    check_refold(levels, step, scale, groups)
    levels, step, scale = levels.contiguous(), step.contiguous(), scale.contiguous()
    (n, channels), (kernels, _, height, width) = scale.shape, levels.shape
    weight = torch.empty((n, *levels.shape), dtype=torch.int8)
    out_scale = torch.empty((n, kernels))
    library_module.refold_weights(
        *(t.data_ptr() for t in (levels, step, scale, weight, out_scale)),
        n,
        kernels,
        channels,
        height * width,
        groups,
        native.cpu_isa(),
        torch.get_num_threads(),
    )
    return weight, out_scale


def subset_conv2d(
    x: list[torch.Tensor],
    points: torch.Tensor,
    mean: torch.Tensor,
    scale: torch.Tensor,
    denominator: int,
    levels: torch.Tensor,
    step: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    activation: str,
    slope: torch.Tensor | None,
    residual: torch.Tensor | None,
    last_activation: str,
    shuffle: int,
    statistics: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    arguments = (
        x, points, mean, scale, denominator, levels, step, bias, stride, padding, dilation, groups,
        activation, slope, residual, last_activation, shuffle, statistics,
    )  # fmt: skip
    if native.load() is None:
        return reference.subset_conv2d(*arguments)
    shape = check_subset_conv(*arguments)
    call = _Call(x, shape, levels, (stride, padding, dilation, groups))
    call.number(encoding=SUBSET, levels=points.shape[1], denominator=denominator, output=FLOATS)
    call.tensors(points=points, mean=mean, scale=scale, weight_step=step, bias=bias)
    call.epilogue(activation, slope, residual, last_activation, shuffle)
    out = empty_statistics(x[0], shape, statistics)
    if statistics:
        call.tensors(**dict(zip(("out_mean", "out_low", "out_high"), out, strict=True)))
    return call.run("subset_conv2d", empty(x[0], shape, torch.float32)), *out


def uniform_conv2d(
    x: list[torch.Tensor],
    in_step: torch.Tensor,
    in_lowest: torch.Tensor,
    in_bits: int,
    levels: torch.Tensor,
    step: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    activation: str,
    slope: torch.Tensor | None,
    residual: torch.Tensor | None,
    residual_step: torch.Tensor | None,
    residual_lowest: torch.Tensor | None,
    last_activation: str,
    shuffle: int,
    out_step: torch.Tensor | None,
    out_lowest: torch.Tensor | None,
    out_bits: int,
) -> torch.Tensor:
    arguments = (
        x, in_step, in_lowest, in_bits, levels, step, bias, stride, padding, dilation, groups,
        activation, slope, residual, residual_step, residual_lowest, last_activation, shuffle,
        out_step, out_lowest, out_bits,
    )  # fmt: skip
    if native.load() is None:
        return reference.uniform_conv2d(*arguments)
    shape = check_uniform_conv(*arguments)
    call = _Call(x, shape, levels, (stride, padding, dilation, groups))
    call.number(encoding=UNIFORM, output=FLOATS if out_step is None else CODES)
    call.uniform("uniform", in_step, in_lowest, in_bits)
    call.uniform("residual_uniform", residual_step, residual_lowest, 8)
    call.uniform("requantized", out_step, out_lowest, out_bits)
    call.tensors(weight_step=step, bias=bias)
    call.epilogue(activation, slope, residual, last_activation, shuffle)
    dtype = torch.float32 if out_step is None else torch.uint8
    return call.run("uniform_conv2d", empty(x[0], shape, dtype))


class _Call:
    """The arguments of the native function, and the tensors whose addresses they hold."""

    def __init__(
        self,
        x: list[torch.Tensor],
        shape: Shape,
        levels: torch.Tensor,
        geometry: tuple[list[int], list[int], list[int], int],
    ) -> None:
        self._alive: list[torch.Tensor] = []
        *pairs, groups = geometry
        (n, _, height, width), channels = x[0].shape, sum(part.shape[1] for part in x)
        # Before a pixel shuffle.
        kernel, out = levels.shape[2:], []
        for i, size in enumerate((height, width)):
            stride, padding, dilation = (pair[i] for pair in pairs)
            out.append((size + 2 * padding - dilation * (kernel[i] - 1) - 1) // stride + 1)
        self._arguments: dict[str, Any] = {
            "shape": [
                n, channels, height, width, len(levels), *kernel,
                *(size for pair in pairs for size in pair), groups, *out,
            ],
            "parts": [
                (self._keep(part, torch.channels_last), part.shape[1], part.dtype != torch.float32)
                for part in x
            ],
            "activation": 0, "slopes": 1, "last": 0, "shuffle": 1,
        }  # fmt: skip
        self.tensors(weight_levels=levels)

    def number(self, **values: int) -> None:
        self._arguments.update(values)

    def tensors(self, **values: torch.Tensor | None) -> None:
        for name, tensor in values.items():
            if tensor is not None:
                self._arguments[name] = self._keep(tensor, torch.contiguous_format)

    def uniform(
        self, name: str, step: torch.Tensor | None, lowest: torch.Tensor | None, bits: int
    ) -> None:
        """Set step, lowest level and number of levels of a uniform quantizer, if there is one."""
        if step is None or lowest is None:
            return
        self._arguments[name] = (float(step), int(lowest), 1 << bits)

    def epilogue(
        self,
        activation: str,
        slope: torch.Tensor | None,
        residual: torch.Tensor | None,
        last_activation: str,
        shuffle: int,
    ) -> None:
        self.number(
            activation=ACTIVATIONS[activation],
            slopes=1 if slope is None else slope.numel(),
            last=ACTIVATIONS[last_activation],
            shuffle=shuffle,
        )
        self.tensors(slope=slope)
        if residual is not None:
            name = "residual" if residual.dtype == torch.float32 else "residual_codes"
            self._arguments[name] = self._keep(residual, torch.channels_last)

    def run(self, operation: str, y: torch.Tensor) -> torch.Tensor:
        library_module = native.load()
        assert library_module is not None
        self._arguments["y"] = y.data_ptr()
        threads = torch.get_num_threads()
        library_module.quant_conv2d(operation, self._arguments, native.cpu_isa(), threads)
        return y

    def _keep(self, tensor: torch.Tensor, layout: torch.memory_format) -> int:
        self._alive.append(tensor.contiguous(memory_format=layout))
        return self._alive[-1].data_ptr()


for function in (int_conv2d, refold_weights, subset_conv2d, uniform_conv2d):
    name = f"ptqsr::{function.__name__}"
    torch.library.register_kernel(name, "cpu", function, lib=library)  # type: ignore[arg-type]
