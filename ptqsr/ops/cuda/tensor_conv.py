"""Convolutions of uniform codes on tensor cores.

A layer's weights are packed when it runs first, and kept as long as they live or until they are
changed in place (not by way of `.data`, which nobody can see). That looks at their values, and so
waits for the device: run a network once before capturing it, and keep it as it was captured.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from torch.utils.weak import WeakIdKeyDictionary

from ptqsr.ops.cuda.kernel import kernel, stream_of
from ptqsr.ops.cuda.processor import processor_of
from ptqsr.ops.cuda.uniform import uniform_encode
from ptqsr.ops.reference import fused_conv as reference
from ptqsr.ops.schema.checks import empty
from ptqsr.ops.schema.fused_conv import UniformConv

# The enumerations and sizes of csrc/include/ptqsr/cuda.h.
ACTIVATIONS = {"none": 0, "relu": 1, "leaky": 2}
STORAGES = {torch.float32: 0, torch.float16: 1, torch.uint8: 2}
BLOCK, SLAB, PIECE = 64, 64, 16
INT8, INT4 = (-128, 127), (-8, 7)


@kernel(reference.uniform_conv2d)
def uniform_conv2d(module: ModuleType, *arguments: object) -> torch.Tensor:
    conv = UniformConv(*arguments)  # type: ignore[arg-type]
    y = empty(conv.x[0], conv.out, conv.out_dtype)
    if not y.numel():
        return y
    processor = processor_of(module, y)
    weights = _weights(conv, processor.takes_4_bits)
    if weights is None:
        return reference.uniform_conv2d(*arguments)
    x = _codes(module, conv, weights)
    one = torch.ones_like(conv.in_step)
    unit = one if conv.out_step is None else conv.out_step
    scale = weights.table(conv.in_step * conv.step / unit)
    bias = weights.table(torch.zeros_like(conv.step) if conv.bias is None else conv.bias / unit)
    slope = None if conv.slope is None else weights.table(conv.slope.expand(conv.sums[1]))
    residual, residual_scale = _residual(conv, one / unit)
    n, _, h, w = conv.x[0].shape
    addresses = {
        "x": x, "weights": weights.packed, "lowest": conv.in_lowest, "tap_sums": weights.tap_sums,
        "total": weights.total, "scale": scale, "bias": bias, "slope": slope, "residual": residual,
        "residual_scale": residual_scale, "residual_lowest": conv.residual_lowest, "y": y,
        "out_lowest": conv.out_lowest,
    }  # fmt: skip
    taken = module.tensor_conv({
        **{name: 0 if t is None else t.data_ptr() for name, t in addresses.items()},
        "shape": [
            n, h, w, x.shape[3], x.shape[3] // conv.groups, conv.groups, conv.sums[1], len(scale),
            *conv.levels.shape[2:], *conv.stride, *conv.padding, *conv.dilation, *conv.sums[2:],
            conv.shuffle,
        ],
        "bits": weights.bits,
        "apart": weights.apart,
        "activation": ACTIVATIONS[conv.activation],
        "residual_storage": 0 if residual is None else STORAGES[residual.dtype],
        "last_relu": conv.last_activation == "relu",
        "output": STORAGES[conv.out_dtype],
        "out_levels": 1 << conv.out_bits,
        "workers": processor.units,
        "shared_limit": processor.shared,
        "stream": stream_of(x),
    })  # fmt: skip
    return y if taken else reference.uniform_conv2d(*arguments)


def _residual(
    conv: UniformConv, per_unit: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return what is added, laid out as the result, and what it is multiplied by."""
    if conv.residual is None:
        return None, None
    residual = conv.residual.contiguous(memory_format=torch.channels_last)
    if conv.residual_step is None:
        return residual, per_unit
    return residual, conv.residual_step * per_unit if conv.out_step is None else (
        conv.residual_step / conv.out_step
    )


@dataclass(eq=False)
class _Weights:
    """A layer's weights as the kernel reads them; `order`: of the output channels, a table's rows.

    `bits`: of codes and weights; `apart`: see TensorConv in csrc/include/ptqsr/cuda.h.
    """

    packed: torch.Tensor
    tap_sums: torch.Tensor
    total: torch.Tensor
    order: torch.Tensor
    groups: int
    bits: int
    apart: bool

    def table(self, values: torch.Tensor) -> torch.Tensor:
        """Return [channels]: numbers of output channels in the kernel's order, padded with 0."""
        return _padded(values[self.order].view(self.groups, -1), 1, BLOCK).reshape(-1)


# By the tensor of levels; then by what they are packed for.
_packed_weights: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _weights(conv: UniformConv, takes_4_bits: bool) -> _Weights | None:
    """Return a layer's packed weights; None where the kernel takes none such."""
    levels = conv.levels
    kept = _packed_weights.setdefault(levels, {})
    # Tensors of inference mode count no changes.
    version = None if levels.is_inference() else levels._version
    key = conv.groups, conv.shuffle, conv.in_bits <= 4, takes_4_bits
    if key not in kept or kept[key][0] != version:
        kept[key] = version, _pack(conv, takes_4_bits)
        if levels.is_cuda:
            # Other streams may take them from here on.
            torch.cuda.current_stream(levels.device).synchronize()
    return kept[key][1]


def _pack(conv: UniformConv, takes_4_bits: bool) -> _Weights | None:
    levels, groups = conv.levels, conv.groups
    least, most = (int(v) for v in levels.aminmax())
    if least < INT8[0] or most > INT8[1]:
        return None
    bits = 4 if conv.in_bits <= 4 and least >= INT4[0] and most <= INT4[1] else 8
    apart = bits == 4 and not takes_4_bits
    kernels, per_group, kh, kw = levels.shape
    square = conv.shuffle**2
    if kernels // groups % square:
        return None  # places of the shuffle's square that go through groups
    # Within a group first all channels of the first place of a pixel shuffle, then of the next.
    order = torch.arange(kernels, device=levels.device).view(groups, -1, square)
    order = order.transpose(1, 2).reshape(-1)
    w = levels[order].view(groups, kernels // groups, per_group, kh * kw)
    round_codes = SLAB * (2 if bits == 4 and not apart else 1)
    w = _padded(_padded(w, 1, BLOCK), 2, round_codes)
    tap_sums = w.sum(2, dtype=torch.int32).permute(2, 0, 1).reshape(kh * kw, -1).contiguous()
    w = w.view(groups, -1, BLOCK, w.shape[2] // round_codes, round_codes, kh * kw)
    w = w.permute(0, 1, 3, 5, 2, 4)  # [group][block][round][tap][output channel][codes]
    if apart:
        w = w.unflatten(-1, (-1, PIECE, 2)).transpose(-1, -2).flatten(-3) * 16
    packed = w.to(torch.int8).contiguous()
    if bits == 4 and not apart:
        packed = _nibbles(packed.view(torch.uint8))
    total = tap_sums.sum(0, dtype=torch.int32)
    return _Weights(packed, tap_sums, total, order, groups, bits, apart)


def _codes(module: ModuleType, conv: UniformConv, weights: _Weights) -> torch.Tensor:
    """Return the input as the kernel reads it: codes, uint8 [N, H, W, bytes]."""
    parts = [
        uniform_encode(module, part, conv.in_step, conv.in_lowest, conv.in_bits)
        if part.is_floating_point()
        else part
        for part in conv.x
    ]
    x = (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).permute(0, 2, 3, 1)
    x = _padded(x.unflatten(3, (conv.groups, -1)), 4, PIECE * 8 // weights.bits)
    x = x.flatten(3).contiguous()
    x = _nibbles(x) if weights.bits == 4 else x
    return x.clone() if x.data_ptr() % PIECE else x


def _nibbles(codes: torch.Tensor) -> torch.Tensor:
    """Return two neighbouring codes in a byte, the first in its low half."""
    return (codes[..., ::2] & 15) | (codes[..., 1::2] << 4)


def _padded(x: torch.Tensor, dim: int, multiple: int) -> torch.Tensor:
    """Return x with zeros up to a multiple along a dimension."""
    short = -x.shape[dim] % multiple
    return F.pad(x, (0, 0) * (x.ndim - 1 - dim) + (0, short)) if short else x
