"""Convolutions of quantized tensors on the CPU: each is one call of one native function."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from ptqsr import native
from ptqsr.ops.cpu.kernel import kernel
from ptqsr.ops.reference import conv as plain
from ptqsr.ops.reference import fused_conv as reference
from ptqsr.ops.schema.checks import Geometry, Shape, empty
from ptqsr.ops.schema.conv import check_int_conv, check_refold
from ptqsr.ops.schema.fused_conv import (
    MeasuredConv,
    SubsetConv,
    UniformConv,
    empty_moments,
    empty_statistics,
)
from ptqsr.ops.schema.uniform import each

# The enumerations of csrc/include/ptqsr/conv.h.
SUBSET, UNIFORM, INTEGERS, UNSIGNED_INTEGERS = range(4)
ACTIVATIONS = {"none": 0, "relu": 1, "leaky": 2}
STORAGES = {torch.float32: 0, torch.float16: 1, torch.uint8: 2, torch.int8: 2}
OUTPUTS = {torch.float32: 0, torch.float16: 1, torch.uint8: 2, torch.int32: 3}


@kernel(plain.int_conv2d)
def int_conv2d(
    module: ModuleType,
    k: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    sums = check_int_conv(k, weight, stride, padding, dilation, groups)
    call = _Call([k], weight.to(torch.int16), (stride, padding, dilation, groups), sums)
    call.number(encoding=INTEGERS if k.dtype == torch.int8 else UNSIGNED_INTEGERS)
    return call.run(module, "int_conv2d", empty(k, sums, torch.int32))


@kernel(plain.refold_weights)
def refold_weights(
    module: ModuleType, levels: torch.Tensor, step: torch.Tensor, scale: torch.Tensor, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    check_refold(levels, step, scale, groups)
    levels, step, scale = levels.contiguous(), step.contiguous(), scale.contiguous()
    (n, channels), (kernels, _, height, width) = scale.shape, levels.shape
    weight = torch.empty((n, *levels.shape), dtype=torch.int8)
    out_scale = torch.empty((n, kernels))
    module.refold_weights(
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


@kernel(reference.subset_conv2d)
def subset_conv2d(
    module: ModuleType, *arguments: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    conv = SubsetConv(*arguments)
    call = _Call(conv.x, conv.levels, conv.geometry, conv.sums)
    call.number(encoding=SUBSET, levels=conv.points.shape[1], denominator=conv.denominator)
    call.tensors(points=conv.points, mean=conv.mean, scale=conv.scale)
    call.epilogue(conv)
    y = empty(conv.x[0], conv.out, conv.out_dtype)
    out = empty_statistics(y, conv.statistics)
    if conv.statistics:
        call.tensors(**dict(zip(("out_mean", "out_low", "out_high"), out, strict=True)))
    return call.run(module, "subset_conv2d", y), *out


@kernel(reference.uniform_conv2d)
def uniform_conv2d(module: ModuleType, *arguments: Any) -> torch.Tensor:
    conv = UniformConv(*arguments)
    return _uniform(conv).run(module, conv.op, empty(conv.x[0], conv.out, conv.out_dtype))


@kernel(reference.uniform_conv2d_moments)
def uniform_conv2d_moments(
    module: ModuleType, *arguments: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    conv = MeasuredConv(*arguments)
    y = empty(conv.x[0], conv.out, conv.out_dtype)
    mean, deviation = empty_moments(y)
    call = _uniform(conv)
    call.tensors(out_mean=mean, out_deviation=deviation)
    return call.run(module, conv.op, y), mean, deviation


def _uniform(conv: UniformConv) -> _Call:
    call = _Call(conv.x, conv.levels, conv.geometry, conv.sums)
    call.number(encoding=UNIFORM)
    counts = 1 << conv.in_bits if conv.in_levels is None else conv.in_levels
    call.uniforms(conv.in_step, conv.in_lowest, counts)
    call.uniform("residual_uniform", conv.residual_step, conv.residual_lowest, 1 << 8)
    most = 1 << conv.out_bits if conv.out_levels is None else conv.out_levels
    call.uniform("requantized", conv.out_step, conv.out_lowest, most)
    call.epilogue(conv)
    return call


class _Call:
    """The arguments of the native function, and the tensors whose addresses they hold."""

    def __init__(
        self, x: list[torch.Tensor], levels: torch.Tensor, geometry: Geometry, sums: Shape
    ) -> None:
        self._alive: list[torch.Tensor] = []
        *pairs, groups = geometry
        n, _, height, width = x[0].shape
        self._arguments: dict[str, Any] = {
            "shape": [
                n, sum(part.shape[1] for part in x), height, width, len(levels), *levels.shape[2:],
                *(size for pair in pairs for size in pair), groups, *sums[2:],
            ],
            "parts": [
                (self._keep(part, torch.channels_last), part.shape[1], STORAGES[part.dtype])
                for part in x
            ],
            "activation": 0, "slopes": 1, "last": 0, "shuffle": 1, "residual_storage": 0,
        }  # fmt: skip
        self.tensors(weight_levels=levels)

    def number(self, **values: int) -> None:
        self._arguments.update(values)

    def tensors(self, **values: torch.Tensor | None) -> None:
        for name, tensor in values.items():
            if tensor is not None:
                self._arguments[name] = self._keep(tensor, torch.contiguous_format)

    def uniforms(
        self, step: torch.Tensor, lowest: torch.Tensor, levels: torch.Tensor | int
    ) -> None:
        """Set step, lowest level and number of levels of the input, of all samples or of each."""
        self._arguments["uniforms"] = list(zip(*each(step, lowest, levels), strict=True))

    def uniform(
        self, name: str, step: torch.Tensor | None, lowest: torch.Tensor | None, levels: int
    ) -> None:
        """Set step, lowest level and number of levels of a uniform quantizer, if there is one."""
        if step is None or lowest is None:
            return
        self._arguments[name] = (float(step), int(lowest), levels)

    def epilogue(self, conv: SubsetConv | UniformConv) -> None:
        self.number(
            activation=ACTIVATIONS[conv.activation],
            slopes=1 if conv.slope is None else conv.slope.numel(),
            last=ACTIVATIONS[conv.last_activation],
            shuffle=conv.shuffle,
        )
        self.tensors(weight_step=conv.step, bias=conv.bias, slope=conv.slope)
        if conv.residual is not None:
            self._arguments["residual"] = self._keep(conv.residual, torch.channels_last)
            self.number(residual_storage=STORAGES[conv.residual.dtype])

    def run(self, module: ModuleType, operation: str, y: torch.Tensor) -> torch.Tensor:
        self.number(output=OUTPUTS[y.dtype], y=y.data_ptr())
        threads = torch.get_num_threads()
        module.quant_conv2d(operation, self._arguments, native.cpu_isa(), threads)
        return y

    def _keep(self, tensor: torch.Tensor, layout: torch.memory_format) -> int:
        self._alive.append(tensor.contiguous(memory_format=layout))
        return self._alive[-1].data_ptr()
