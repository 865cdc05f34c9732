"""A Plan in words: what runs how, and why."""

from __future__ import annotations

from math import ceil
from typing import Any

import torch
from torch import nn

from ptqsr.lowering import (
    Convolve,
    DropIn,
    Encode,
    Float,
    Measure,
    Moments,
    Plan,
    Record,
    Statistics,
)
from ptqsr.models.flow import LAYERS
from ptqsr.modules import (
    Codes,
    FakeQuantConv2d,
    IntegerConv,
    SelectedCodes,
    SelectedConv,
    UniformCodes,
)
from ptqsr.quantizers import SelectedQuantizer

FLOAT_BITS = 32
# What AVX-512's integer products take at once: so many output channels, four inputs of each.
LANES, WORD = 16, 4
GIVES = {torch.float32: "", torch.float16: "gives float16", torch.uint8: "gives codes"}


def describe(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for every layer, and for every pass over a tensor besides the layers.

    Keys: layer, shape, how, weight_bits, act_bits, fused (what the layer took over, in order),
    statistics (whether it gives those of its result), remark.
    """
    return [row for record in plan.records if (row := _row(record)) is not None]


def other_steps(plan: Plan) -> int:
    """Return how many of the steps, all of PyTorch's own, `describe` leaves out."""
    return sum(isinstance(r, Float) and _row(r) is None for r in plan.records)


def _row(record: Record) -> dict[str, Any] | None:
    if isinstance(record, Convolve):
        codes = sum(source.is_codes for source in record.sources)
        remarks = [
            f"reads {len(record.sources)} parts" if len(record.sources) > 1 else "",
            "reads codes" if codes else "",
            GIVES[record.dtype],
            _choice(record.conv.codes),
            _lanes(record.conv),
        ]
        statistics = record.statistics or record.moments
        return _integers(record.layer, record.conv, list(record.absorbed), statistics, remarks)
    if isinstance(record, DropIn) and record.conv is None:
        return _float(record.layer, record.why, record.module)
    if isinstance(record, DropIn) and isinstance(record.conv, SelectedConv):
        remarks = ["by itself", _candidates(record.conv.quantizer)]
        return _integers(record.layer, record.conv.convs[-1], [], False, remarks)
    if isinstance(record, DropIn) and isinstance(record.conv, IntegerConv):
        return _integers(record.layer, record.conv, [], False, ["by itself", _lanes(record.conv)])
    if isinstance(record, Statistics):
        return _pass(f"statistics of {record.tensor}", "what makes it cannot give them")
    if isinstance(record, Moments):
        return _pass(f"deviations of {record.tensor}", "what makes it cannot give them")
    if isinstance(record, Measure):
        return _pass(f"gradient of {record.tensor}", "bits are chosen by it")
    if isinstance(record, Encode):
        return _pass(f"codes of {record.tensor}", _encoding(record.codes))
    if isinstance(record, Float):
        return _float(str(record.node.target), record.why, record.module)
    return None


def _choice(codes: Codes) -> str:
    return _candidates(codes.quantizer) if isinstance(codes, SelectedCodes) else ""


def _candidates(quantizer: SelectedQuantizer) -> str:
    return f"every sample chooses {' or '.join(map(str, quantizer.candidates))} bits"


def _encoding(codes: Codes) -> str:
    if not isinstance(codes, UniformCodes) or codes.plain:
        return "encoded once, read by several layers"
    has = [
        name for name, part in (("shift", codes.shift), ("gain", codes.gain)) if part is not None
    ]
    return f"encoded with {', '.join(has)}, which the layers do not do themselves"


def _integers(
    layer: str, conv: IntegerConv, fused: list[str], statistics: bool, remarks: list[str]
) -> dict[str, Any]:
    return {
        "layer": layer,
        "shape": _shape(tuple(conv.levels.shape), conv.stride, conv.dilation, conv.groups),
        "how": f"int8 {conv.codes.kind}",
        "weight_bits": conv.weight_bits,
        "act_bits": conv.codes.bits,
        "fused": fused,
        "statistics": statistics,
        "remark": "; ".join(remark for remark in remarks if remark),
    }


def _float(name: str, why: str | None, layer: nn.Module | None) -> dict[str, Any] | None:
    if not isinstance(layer, LAYERS):
        return None
    fake = isinstance(layer, FakeQuantConv2d)
    shape = tuple(layer.weight.shape)
    what = "simulated in PyTorch float32" if fake else "PyTorch float32"
    return {
        "layer": name,
        "shape": "x".join(map(str, shape))
        if isinstance(layer, nn.Linear)
        else _shape(shape, layer.stride, layer.dilation, layer.groups),
        "how": "float",
        "weight_bits": layer.weight_bits if isinstance(layer, FakeQuantConv2d) else FLOAT_BITS,
        "act_bits": layer.act_bits if isinstance(layer, FakeQuantConv2d) else FLOAT_BITS,
        "fused": [],
        "statistics": False,
        "remark": f"{why}: {what}",
    }


def _pass(what: str, remark: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("layer", "shape", "how", "weight_bits", "act_bits"))
    return {**row, "layer": what, "how": "pass", "fused": [], "statistics": False, "remark": remark}


def _shape(
    weight: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], groups: int
) -> str:
    parts = ["x".join(map(str, weight))]
    parts += [f"stride {'x'.join(map(str, stride))}"] if max(stride) > 1 else []
    parts += [f"dilation {'x'.join(map(str, dilation))}"] if max(dilation) > 1 else []
    parts += [f"{groups} groups"] if groups > 1 else []
    return ", ".join(parts)


def _lanes(conv: IntegerConv) -> str:
    """Return how full the channels of a group make a processor's vectors, where they do not."""
    kernels, channels = conv.levels.shape[0] // conv.groups, conv.levels.shape[1]
    full = kernels / (LANES * ceil(kernels / LANES)) * channels / (WORD * ceil(channels / WORD))
    if full == 1:
        return ""
    each = " per group" if conv.groups > 1 else ""
    return f"{channels} to {kernels} channels{each}: {full:.0%} of the lanes".replace("%", " %")
