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
from ptqsr.ops.cuda.processor import takes_4_bits
from ptqsr.ops.cuda.uniform import uniform_encode
from ptqsr.ops.reference import fused_conv as reference
from ptqsr.ops.schema.checks import empty
from ptqsr.ops.schema.fused_conv import SubsetConv, UniformConv

# The enumerations and sizes of csrc/include/ptqsr/cuda.h.
ACTIVATIONS = {"none": 0, "relu": 1, "leaky": 2}
STORAGES = {torch.float32: 0, torch.float16: 1, torch.uint8: 2}
POINTERS = (
    "x", "weights", "lowest", "total", "scale", "bias", "slope", "residual", "residual_scale",
    "residual_lowest", "y", "out_lowest", "moments_sum", "moments_low", "moments_high",
)  # fmt: skip
Border = tuple[int, int, int]
BLOCK, RUN, SLAB, PIECE = 64, 16, 64, 16
INT8, INT4 = (-128, 127), (-8, 7)


@kernel(reference.uniform_conv2d)
def uniform_conv2d(module: ModuleType, *arguments: object) -> torch.Tensor:
    conv = UniformConv(*arguments)  # type: ignore[arg-type]
    y = empty(conv.x[0], conv.out, conv.out_dtype)
    if not y.numel():
        return y
    weights = _weights(conv, takes_4_bits(module, y))
    if weights is None:
        return reference.uniform_conv2d(*arguments)
    one = torch.ones_like(conv.in_step)
    unit = one if conv.out_step is None else conv.out_step
    residual, residual_scale = _residual(conv, one / unit)
    _, _, height, width = conv.sums
    taken = launch(
        module,
        conv,
        weights.layout,
        _codes(module, conv, weights.layout),
        y,
        residual,
        weights=weights.packed,
        lowest=conv.in_lowest,
        total=weights.total,
        scale=weights.table(conv.in_step * conv.step / unit),
        bias=weights.table(torch.zeros_like(conv.step) if conv.bias is None else conv.bias / unit),
        slope=None if conv.slope is None else weights.table(conv.slope.expand(conv.sums[1])),
        residual_scale=residual_scale,
        residual_lowest=conv.residual_lowest,
        out_lowest=conv.out_lowest,
        out_levels=1 << conv.out_bits,
        # Codes outside the picture stand for 0 as they are.
        rows=(0, height, height),
        columns=(0, width, width),
    )
    return y if taken else reference.uniform_conv2d(*arguments)


def launch(
    module: ModuleType,
    conv: UniformConv | SubsetConv,
    layout: Layout,
    x: torch.Tensor,
    y: torch.Tensor,
    residual: torch.Tensor | None,
    rows: Border,
    columns: Border,
    out_levels: int = 0,
    **tensors: torch.Tensor | None,
) -> bool:
    """Run TensorConv of csrc/include/ptqsr/cuda.h; False where it does not take the shape.

    `tensors`: its members of that name; those not given are null.
    """
    n, _, h, w = conv.x[0].shape
    addresses = dict.fromkeys(POINTERS) | tensors | {"x": x, "y": y, "residual": residual}
    return module.tensor_conv({
        **{name: 0 if t is None else t.data_ptr() for name, t in addresses.items()},
        "shape": [
            n, h, w, x.shape[3], x.shape[3] // conv.groups, conv.groups, conv.sums[1],
            layout.channels, *conv.levels.shape[2:], *conv.stride, *conv.padding, *conv.dilation,
            *conv.sums[2:], conv.shuffle,
        ],
        "bits": layout.bits,
        "row": layout.row,
        "is_signed": x.dtype == torch.int8,
        "apart": layout.apart,
        "by_sample": isinstance(conv, SubsetConv),
        "rows": rows,
        "columns": columns,
        "activation": ACTIVATIONS[conv.activation],
        "residual_storage": 0 if residual is None else STORAGES[residual.dtype],
        "last_relu": conv.last_activation == "relu",
        "output": STORAGES[conv.out_dtype],
        "out_levels": out_levels,
        "stream": stream_of(x),
    })  # fmt: skip


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


@dataclass(frozen=True)
class Layout:
    """How a convolution's output channels and weights lie, as csrc/include/ptqsr/cuda.h says.

    `places`: of a pixel shuffle's square; `channels`: a table's entries; `bits`: of codes and
    weights; `row`: bytes of a row in shared memory; `apart`: 4 bits become bytes.
    """

    groups: int
    places: int
    per_place: int
    bits: int
    row: int
    apart: bool

    @property
    def channels(self) -> int:
        in_group = self.places * (self.per_place + -self.per_place % RUN)
        return self.groups * (in_group + -in_group % BLOCK)

    @property
    def codes(self) -> int:
        """Codes in a row."""
        return self.row * (2 if self.bits == 4 and not self.apart else 1)

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Return [channels, ...]: what belongs to output channels in the kernel's order.

        Within a group first all channels of the first place of a pixel shuffle, then of the next,
        each place padded with 0 to whole runs and all together to whole blocks.
        """
        values = values.unflatten(0, (self.groups, self.per_place, self.places)).transpose(1, 2)
        values = _padded(values, 2, RUN).flatten(1, 2)
        return _padded(values, 1, BLOCK).flatten(0, 1).contiguous()

    def pack(self, levels: torch.Tensor) -> torch.Tensor:
        """Return weights as the kernel reads them, of levels [O, I / groups, kh, kw]."""
        w = _padded(self.spread(levels.flatten(2)), 1, self.codes)
        # [group and block][run][pair][of two][round][codes][tap], of which a row has run, pair and
        # which of the two in another order.
        w = w.view(-1, BLOCK // RUN, RUN // 2, 2, w.shape[1] // self.codes, self.codes, w.shape[2])
        w = w.permute(0, 4, 6, 2, 1, 3, 5)
        if self.apart:
            w = w.unflatten(-1, (-1, PIECE, 2)).transpose(-1, -2).flatten(-3) * 16
        packed = w.to(torch.int8).contiguous()
        return _nibbles(packed.view(torch.uint8)) if self.bits == 4 and not self.apart else packed


@dataclass(eq=False)
class _Weights:
    """A layer's weights as the kernel reads them."""

    packed: torch.Tensor
    total: torch.Tensor
    layout: Layout

    def table(self, values: torch.Tensor) -> torch.Tensor:
        return self.layout.spread(values)


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
    levels = conv.levels
    least, most = (int(v) for v in levels.aminmax())
    if least < INT8[0] or most > INT8[1]:
        return None
    bits = 4 if conv.in_bits <= 4 and least >= INT4[0] and most <= INT4[1] else 8
    layout = layout_of(conv, bits, apart=bits == 4 and not takes_4_bits)
    if layout is None:
        return None
    total = layout.spread(levels.sum((1, 2, 3), dtype=torch.int32))
    return _Weights(layout.pack(levels), total, layout)


def layout_of(conv: UniformConv | SubsetConv, bits: int, apart: bool) -> Layout | None:
    """Return how a layer lies; None where places of a pixel shuffle's square go through groups."""
    kernels, per_group = conv.levels.shape[:2]
    places = conv.shuffle**2
    if kernels // conv.groups % places:
        return None
    small = bits == 4 and not apart and per_group <= SLAB
    return Layout(
        conv.groups, places, kernels // conv.groups // places, bits, SLAB // 2 if small else SLAB,
        apart,
    )  # fmt: skip


def _codes(module: ModuleType, conv: UniformConv, layout: Layout) -> torch.Tensor:
    """Return the input as the kernel reads it: codes, uint8 [N, H, W, bytes]."""
    parts = [
        uniform_encode(module, part, conv.in_step, conv.in_lowest, conv.in_bits)
        if part.is_floating_point()
        else part
        for part in conv.x
    ]
    x = (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).permute(0, 2, 3, 1)
    x = _padded(x.unflatten(3, (conv.groups, -1)), 4, PIECE * 8 // layout.bits)
    x = x.flatten(3).contiguous()
    x = _nibbles(x) if layout.bits == 4 else x
    return x.clone() if x.data_ptr() % PIECE else x


def _nibbles(codes: torch.Tensor) -> torch.Tensor:
    """Return two neighbouring codes in a byte, the first in its low half."""
    return (codes[..., ::2] & 15) | (codes[..., 1::2] << 4)


def _padded(x: torch.Tensor, dim: int, multiple: int) -> torch.Tensor:
    """Return x with zeros up to a multiple along a dimension."""
    short = -x.shape[dim] % multiple
    return F.pad(x, (0, 0) * (x.ndim - 1 - dim) + (0, short)) if short else x
