"""Results of static convolutions in 8 bits that the simulated network has in floating point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptqsr.exporting.graph import Graph
from ptqsr.exporting.integers import (
    LEAST_STEP,
    StaticConv,
    put_quantizer,
    quantize_early,
    static_convs,
    write_weights,
)

LAST_CODE = 255
# A picture's windows, and as many results as ONNX Runtime's fast convolutions make at least.
WINDOWS, RESULTS = 4, 16


@dataclass(frozen=True, eq=False)
class Range:
    """What a result's channels reach: float64 [O], low <= 0 <= high."""

    low: np.ndarray
    high: np.ndarray


def arrange(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, int]:
    """Rearrange the static convolutions of a graph; return the levels of quantized results.

    ranges: of what convolutions give, by layer. Of layers that are not in it results stay floating
    point, but where quantizers alone read them. So does what a convolution makes of the picture
    itself: all others add to it, and it has few products.
    """
    levels: dict[str, int] = {}
    for conv in static_convs(graph):
        early = quantize_early(graph, conv)
        found = ranges.get(conv.layer)
        if not early and found is not None and not graph.comes_from_input(conv.node.inputs[0]):
            picture = graph.becomes_output(conv.result) and not _grouped(conv)
            put = _in_windows if picture else _by_channel
            levels[conv.layer] = put(graph, conv, _after(conv, found))
        write_weights(graph, conv)
    return levels


def _after(conv: StaticConv, found: Range) -> Range:
    """Return the range of a result with what was folded into the convolution."""
    ends = [end * conv.gain + conv.shift for end in (found.low, found.high)]
    return Range(np.minimum(0, np.minimum(*ends)), np.maximum(0, np.maximum(*ends)))


def _by_channel(graph: Graph, conv: StaticConv, found: Range) -> int:
    """Give every channel 256 levels over its own range; return their number.

    Weights are divided by the channel's step, so that QuantizeLinear has one for all, 1, as fused
    convolutions have. A ReLU that alone reads the result is left out: codes begin at 0.
    """
    user = graph.only_user(conv.result)
    low, high = found.low, found.high
    if user is not None and user.op_type == "Relu":
        graph.drop(user, conv.result)
        low = np.zeros_like(low)
    fusible = _fusible(graph, conv.result)
    if fusible and low.any():
        high = np.maximum(-low, high)
        low = -high
    reach = high - low
    # A channel that was always 0 gets a thousandth of what others have.
    steps = np.maximum(reach, max(float(reach.max()) / 1000, LEAST_STEP)) / LAST_CODE
    zero = 128 if low.any() else 0
    zeros = np.full(len(steps), zero) if fusible else np.rint(-low / steps).clip(0, LAST_CODE)
    conv.gain, conv.shift = conv.gain / steps, conv.shift / steps + (zeros - zero)
    name, steps = conv.node.name, steps.astype(np.float32)
    one = [graph.keep("one", np.float32(1)), graph.keep(f"code_{zero}", np.uint8(zero))]
    if fusible:
        codes = put_quantizer(graph, conv, one, one)
        result = codes.uses()[0].node.outputs[0]
        factors = graph.keep(f"{name}.result_step", steps.reshape(-1, 1, 1))
        graph.insert("Mul", result, [factors], f"{name}_scaled")
    else:
        own_zeros = graph.keep(f"{name}.result_zero", zeros.astype(np.uint8))
        own = [graph.keep(f"{name}.result_step", steps), own_zeros]
        put_quantizer(graph, conv, one, own, axis=1)
    return LAST_CODE + 1


def _fusible(graph: Graph, value: Any) -> bool:
    """Return whether quantizers, or steps that quantizers alone read, read a value.

    ONNX Runtime fuses such steps with what dequantizes before them, though it has no form of them
    by channels; a multiplication in between, and one zero point, keep it from that.
    """
    return any(
        user.op_type == "QuantizeLinear" or graph.only_quantized(result)
        for user in graph.users(value)
        for result in user.outputs
    )


def _in_windows(graph: Graph, conv: StaticConv, found: Range) -> int:
    """Give a result that becomes the picture several times 256 levels; return their number.

    Its range is cut into windows. Each has a channel of its own, the same convolution less the
    window's lower end, which saturates at either end of the window: their sum is the result. A
    further convolution, 1x1, adds them up. Results beyond those wanted are 0.
    """
    channels = len(conv.step)
    windows = max(WINDOWS, RESULTS // channels)
    spare = -channels * windows % RESULTS
    reach = np.maximum(found.high - found.low, LEAST_STEP)
    steps = reach / windows / LAST_CODE
    starts = found.low[:, None] + reach[:, None] / windows * np.arange(windows)

    def several(each: np.ndarray, rest: float = 0.0) -> np.ndarray:
        added = np.full((spare, *each.shape[1:]), rest, each.dtype)
        return np.concatenate((np.repeat(each, windows, axis=0), added))

    conv.codes, conv.step, conv.bias = (
        several(conv.codes),
        several(conv.step, 1),
        several(conv.bias),
    )
    conv.gain = several(conv.gain / steps, 1)
    shifts = (conv.shift[:, None] - starts) / steps[:, None]
    conv.shift = np.concatenate((shifts.ravel(), np.zeros(spare)))
    name = conv.node.name
    given = [graph.keep("one", np.float32(1)), graph.keep("code_0", np.uint8(0))]
    codes = put_quantizer(graph, conv, given, given)
    sums = np.zeros((channels, channels * windows + spare, 1, 1), np.float32)
    for channel in range(channels):
        sums[channel, channel * windows : (channel + 1) * windows] = steps[channel]
    weight = graph.keep(f"{name}.windows", sums)
    ends = graph.keep(f"{name}.windows_start", found.low.astype(np.float32))
    graph.insert("Conv", codes.uses()[0].node.outputs[0], [weight, ends], f"{name}_sum")
    return windows * LAST_CODE + 1


def _grouped(conv: StaticConv) -> bool:
    group = conv.node.attributes.get("group")
    return group is not None and group.as_int() > 1
