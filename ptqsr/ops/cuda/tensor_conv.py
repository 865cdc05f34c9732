"""Convolutions of codes on tensor cores: how their operands lie, and the kernel's call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F

from ptqsr.ops.cuda.kernel import stream_of
from ptqsr.ops.schema.fused_conv import SubsetConv, UniformConv

# The enumerations and sizes of csrc/include/ptqsr/cuda.h.
ACTIVATIONS = {"none": 0, "relu": 1, "leaky": 2}
STORAGES = {torch.float32: 0, torch.float16: 1, torch.uint8: 2}
MOMENTS = (
    "moments_sum", "moments_low", "moments_high", "moments_blocks", "out_mean", "out_low",
    "out_high",
)  # fmt: skip
POINTERS = (
    "x", "weights", "lowest", "total", "zeros", "scale", "bias", "slope", "residual",
    "residual_scale", "residual_lowest", "y", "out_lowest", "points", "mean", "in_scale", *MOMENTS,
)  # fmt: skip
BLOCK, RUN, SLAB, PIECE = 64, 16, 64, 16

Border = tuple[int, int, int]


@dataclass(frozen=True)
class Layout:
    """How a convolution's output channels and weights lie, as csrc/include/ptqsr/cuda.h says.

    `places`: of a pixel shuffle's square; `channels`: a table's entries; `bits`: of codes and
    weights; `row`: bytes of a row in shared memory; `codes`: in one.
    """

    groups: int
    places: int
    per_place: int
    bits: int
    row: int

    @property
    def channels(self) -> int:
        in_group = self.places * (self.per_place + -self.per_place % RUN)
        return self.groups * (in_group + -in_group % BLOCK)

    @property
    def codes(self) -> int:
        return self.row * 8 // self.bits

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Return [channels, ...]: what belongs to output channels in the kernel's order.

        Within a group first all channels of the first place of a pixel shuffle, then of the next,
        each place padded with 0 to whole runs and all together to whole blocks.
        """
        values = values.unflatten(0, (self.groups, self.per_place, self.places)).transpose(1, 2)
        values = padded(values, 2, RUN).flatten(1, 2)
        return aligned(padded(values, 1, BLOCK).flatten(0, 1).contiguous())

    def pack(self, levels: torch.Tensor) -> torch.Tensor:
        """Return weights as the kernel reads them, of levels [O, I / groups, kh, kw]."""
        w = padded(self.spread(levels.flatten(2)), 1, self.codes)
        # [group and block][run][pair][of two][round][codes][tap], of which a row has run, pair and
        # which of the two in another order.
        w = w.view(-1, BLOCK // RUN, RUN // 2, 2, w.shape[1] // self.codes, self.codes, w.shape[2])
        w = w.permute(0, 4, 6, 2, 1, 3, 5)
        packed = w.to(torch.int8).contiguous()
        return nibbles(packed.view(torch.uint8)) if self.bits == 4 else packed


def layout_of(conv: UniformConv | SubsetConv, bits: int) -> Layout | None:
    """Return how a layer lies; None where places of a pixel shuffle's square go through groups."""
    kernels, per_group = conv.levels.shape[:2]
    places = conv.shuffle**2
    if kernels // conv.groups % places:
        return None
    row = SLAB // 2 if bits == 4 and per_group <= SLAB else SLAB
    return Layout(conv.groups, places, kernels // conv.groups // places, bits, row)


def aligned(x: torch.Tensor) -> torch.Tensor:
    """Return a contiguous tensor that begins at a multiple of 16 bytes, as the kernel reads it."""
    return x.clone() if x.data_ptr() % PIECE else x


def borders(conv: SubsetConv) -> tuple[Border, Border]:
    """Return the classes of rows and columns, as csrc/cuda/border.h has them."""
    sizes = zip(
        conv.x[0].shape[2:], conv.sums[2:], conv.levels.shape[2:], conv.stride, conv.padding,
        conv.dilation, strict=True,
    )  # fmt: skip
    rows, columns = (_border(*of_axis) for of_axis in sizes)
    return rows, columns


def _border(size: int, out: int, taps: int, stride: int, padding: int, dilation: int) -> Border:
    first = -(-padding // stride)
    last = -(-(size + padding - (taps - 1) * dilation) // stride)
    return min(first, out), min(max(last, 0), out), out


def classes(border: Border) -> int:
    first, last, size = border
    return first + 1 + size - max(first, last)


def as_rows(parts: list[torch.Tensor], groups: int, bits: int, zero: torch.Tensor) -> torch.Tensor:
    """Return codes [N, C, H, W] as the kernel reads them: [N, H, W, channels], whole pieces.

    Channels that fill a piece have the code `zero`, a scalar or one for each sample.
    """
    x = (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).permute(0, 2, 3, 1)
    x = x.unflatten(3, (groups, -1))
    if short := -x.shape[4] % (PIECE * 8 // bits):
        codes = zero.to(x.dtype).view(-1, 1, 1, 1, 1).expand(*x.shape[:4], short)
        x = torch.cat([x, codes], 4)
    x = x.flatten(3).contiguous()
    return aligned(x)


def launch(
    module: ModuleType,
    conv: UniformConv | SubsetConv,
    layout: Layout,
    x: torch.Tensor,
    y: torch.Tensor,
    tensors: Mapping[str, torch.Tensor | None],
    rows: Border,
    columns: Border,
    out_levels: int = 0,
) -> bool:
    """Run TensorConv of csrc/include/ptqsr/cuda.h; False where it does not take the shape.

    `tensors`: its members of that name; those not given are null.
    """
    n, _, h, w = conv.x[0].shape
    size = x.shape[3] * layout.bits // 8  # bytes of operands a pixel
    residual = conv.residual
    if residual is not None:
        residual = residual.contiguous(memory_format=torch.channels_last)
    addresses = {**dict.fromkeys(POINTERS), **tensors, "x": x, "y": y, "residual": residual}
    taken: bool = module.tensor_conv({
        **{name: 0 if t is None else t.data_ptr() for name, t in addresses.items()},
        "shape": [
            n, h, w, size, size // conv.groups, conv.groups, conv.sums[1],
            layout.channels, *conv.levels.shape[2:], *conv.stride, *conv.padding, *conv.dilation,
            *conv.sums[2:], conv.shuffle,
        ],
        "bits": layout.bits,
        "row": layout.row,
        "is_signed": isinstance(conv, SubsetConv),
        "encodes": x.dtype == torch.float16,
        "levels": conv.points.shape[1] if isinstance(conv, SubsetConv) else 0,
        "denominator": conv.denominator if isinstance(conv, SubsetConv) else 0,
        "by_sample": isinstance(conv, SubsetConv) or conv.in_step.ndim == 1,
        "rows": rows,
        "columns": columns,
        "activation": ACTIVATIONS[conv.activation],
        "residual_storage": 0 if residual is None else STORAGES[residual.dtype],
        "last_relu": conv.last_activation == "relu",
        "output": STORAGES[conv.out_dtype],
        "out_levels": out_levels,
        "stream": stream_of(x),
    })  # fmt: skip
    return taken


def nibbles(codes: torch.Tensor) -> torch.Tensor:
    """Return two neighbouring codes in a byte, the first in its low half."""
    return (codes[..., ::2] & 15) | (codes[..., 1::2] << 4)


def padded(x: torch.Tensor, dim: int, multiple: int) -> torch.Tensor:
    """Return x with zeros up to a multiple along a dimension."""
    short = -x.shape[dim] % multiple
    return F.pad(x, (0, 0) * (x.ndim - 1 - dim) + (0, short)) if short else x
