"""Convolutions of uniform codes on tensor cores.

A layer's weights and tables are made when it runs first, and kept as long as its levels live or
until something they are made of is changed in place (not by way of `.data`, which nobody can see).
That looks at values, and so waits for the device: run a network once before capturing it, and keep
it as it was captured.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from ptqsr.ops.cuda.kernel import kernel
from ptqsr.ops.cuda.processor import takes_4_bits
from ptqsr.ops.cuda.tensor_conv import Layout, as_rows, launch, layout_of
from ptqsr.ops.cuda.uniform import encoded
from ptqsr.ops.reference import fused_conv as reference
from ptqsr.ops.reference.moments import channel_moments
from ptqsr.ops.schema.checks import empty
from ptqsr.ops.schema.fused_conv import MeasuredConv, UniformConv


@kernel(reference.uniform_conv2d)
def uniform_conv2d(module: ModuleType, *arguments: Any) -> torch.Tensor:
    return _convolved(module, UniformConv(*arguments), arguments)


@kernel(reference.uniform_conv2d_moments)
def uniform_conv2d_moments(
    module: ModuleType, *arguments: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    y = _convolved(module, MeasuredConv(*arguments), arguments)
    return y, *channel_moments(y)


def _convolved(module: ModuleType, conv: UniformConv, arguments: tuple[Any, ...]) -> torch.Tensor:
    y = empty(conv.x[0], conv.out, conv.out_dtype)
    if not y.numel():
        return y
    layer = _layer(conv, takes_4_bits(module, y))
    if layer is None:
        return reference.uniform_conv2d(*arguments)
    tensors = {
        **layer.tables(conv), "weights": layer.packed, "total": layer.total, "zeros": layer.zeros,
        "lowest": conv.in_lowest, "residual_lowest": conv.residual_lowest,
        "out_lowest": conv.out_lowest,
    }  # fmt: skip
    # Codes outside the picture stand for 0 as they are: all rows and columns are of one class.
    rows, columns = ((0, size, size) for size in conv.sums[2:])
    x = _codes(module, conv, layer.layout)
    most = 1 << conv.out_bits if conv.out_levels is None else conv.out_levels
    taken = launch(module, conv, layer.layout, x, y, tensors, rows, columns, most)
    return y if taken else reference.uniform_conv2d(*arguments)


Version = tuple[int, int | None] | None
Tensors = tuple[torch.Tensor | None, ...]
Tables = dict[str, torch.Tensor | None]


def _version(x: torch.Tensor | None) -> Version:
    """Return what changes with a tensor's values; those of inference mode count no changes."""
    if x is None:
        return None
    return id(x), None if x.is_inference() else x._version


# Of one layer, whose weights may be used with several quantizers (recursion).
TABLES_KEPT = 16
# Making and publishing: what others find is finished.
_lock = threading.Lock()


@dataclass(eq=False)
class _Layer:
    """A layer's weights as the kernel reads them, and its tables for what they were made of.

    `zeros`: what was taken from the weights of every output channel, so that they fit.
    """

    packed: torch.Tensor
    total: torch.Tensor
    zeros: torch.Tensor | None
    layout: Layout
    # By versions, with what they were made of, so that no other tensor gets the same ids.
    _made: OrderedDict[tuple[Version, ...], tuple[Tensors, Tables]] = field(
        default_factory=OrderedDict
    )

    def tables(self, conv: UniformConv) -> Tables:
        """Return `scale`, `bias`, `slope` and `residual_scale` of TensorConv."""
        tables = self._kept_tables(conv)
        if conv.in_step.ndim == 0:
            return tables
        # Of samples that choose their steps: another one at every call.
        scale = tables["scale"]
        assert scale is not None
        scale = conv.in_step.view(-1, 1) * scale
        return {**tables, "scale": scale if conv.out_step is None else scale / conv.out_step}

    def _kept_tables(self, conv: UniformConv) -> Tables:
        of = (
            None if conv.in_step.ndim else conv.in_step, conv.step, conv.bias, conv.slope,
            conv.residual_step, conv.out_step, None if conv.residual is None else conv.step,
        )  # fmt: skip
        versions = tuple(_version(t) for t in of)
        with _lock:
            if versions not in self._made:
                made = self._make(conv)
                _finish(conv.levels)
                if len(self._made) >= TABLES_KEPT:
                    _finish_device(conv.levels)
                    self._made.popitem(last=False)
                self._made[versions] = of, made
            self._made.move_to_end(versions)
            return self._made[versions][1]

    def _make(self, conv: UniformConv) -> Tables:
        spread = self.layout.spread
        one = conv.in_step.new_ones(())
        unit = one if conv.out_step is None else conv.out_step
        residual_scale = None
        if conv.residual is not None:
            residual_scale = (one if conv.residual_step is None else conv.residual_step) / unit
        return {
            "scale": spread(conv.step if conv.in_step.ndim else conv.in_step * conv.step / unit),
            "bias": spread(torch.zeros_like(conv.step) if conv.bias is None else conv.bias / unit),
            "slope": None if conv.slope is None else spread(conv.slope.expand(conv.sums[1])),
            "residual_scale": residual_scale,
        }


def _finish(x: torch.Tensor) -> None:
    """Wait for what was made, since other streams may take it from here on."""
    if x.is_cuda:
        torch.cuda.current_stream(x.device).synchronize()


def _finish_device(x: torch.Tensor) -> None:
    """Wait for all that may still read what is forgotten now."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


# By the tensor of levels; then by what they are packed for.
_layers: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _layer(conv: UniformConv, takes_4_bits: bool) -> _Layer | None:
    """Return a layer's packed weights; None where the kernel takes none such."""
    version = _version(conv.levels)
    key = conv.groups, conv.shuffle, conv.in_bits <= 4, takes_4_bits
    with _lock:
        kept = _layers.setdefault(conv.levels, {})
        if key not in kept or kept[key][0] != version:
            made = _pack(conv, takes_4_bits)
            _finish(conv.levels)
            if key in kept:
                _finish_device(conv.levels)
            kept[key] = version, made
        found: _Layer | None = kept[key][1]
    return found


def _pack(conv: UniformConv, takes_4_bits: bool) -> _Layer | None:
    levels = conv.levels
    least, most = (extreme.to(torch.int32) for extreme in levels.flatten(1).aminmax(dim=1))
    widest = int((most - least).max())
    if widest > 255:
        return None
    bits = 4 if takes_4_bits and conv.in_bits <= 4 and widest <= 15 else 8
    half = 1 << (bits - 1)
    # Weights that fit stay as they are.
    zeros = torch.where((least < -half) | (most >= half), least + half, 0)
    levels = levels - zeros.view(-1, 1, 1, 1)
    layout = layout_of(conv, bits)
    if layout is None:
        return None
    total = layout.spread(levels.sum((1, 2, 3), dtype=torch.int32))
    spread = layout.spread(zeros.to(torch.int32)) if bool(zeros.any()) else None
    return _Layer(layout.pack(levels), total, spread, layout)


def _codes(module: ModuleType, conv: UniformConv, layout: Layout) -> torch.Tensor:
    """Return the input as the kernel reads it: codes, uint8 [N, H, W, bytes]."""
    parts = [
        encoded(module, part, conv.in_step, conv.in_lowest, conv.in_bits, conv.in_levels)
        if part.is_floating_point()
        else part
        for part in conv.x
    ]
    return as_rows(parts, conv.groups, layout.bits, -conv.in_lowest)
