"""Static layers in an ONNX graph, put so that runtimes make integer convolutions of them.

ONNX Runtime fuses a convolution whose input, weight and bias come out of DequantizeLinear if
QuantizeLinear follows it at once; OpenVINO needs the first half alone. So what stands between is
folded or moved, and where it was asked for, results that the simulated network leaves in floating
point are quantized, too (`results`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ptqsr.exporting.graph import Graph

# What a bias may take of int32; the rest is for the products.
LARGEST_BIAS = 1 << 30
# Scales stay far above the smallest float32.
LEAST_STEP = 1e-30


@dataclass
class StaticConv:
    """A convolution of codes: (conv(codes * step) + bias) * gain + shift; float64 [O] but codes.

    `node`: the ONNX node; `layer`: its name in the network; `x_step`: of the codes that it reads.
    """

    node: Any
    layer: str
    x_step: float
    codes: np.ndarray
    step: np.ndarray
    bias: np.ndarray
    gain: np.ndarray
    shift: np.ndarray

    @property
    def result(self) -> Any:
        return self.node.outputs[0]


def static_convs(graph: Graph) -> list[StaticConv]:
    """Return the static convolutions of a graph, with what follows folded into them."""
    found = [conv for node in graph.nodes("Conv") if (conv := _static(graph, node))]
    for conv in found:
        while _absorb(graph, conv):
            pass
    return found


def _static(graph: Graph, node: Any) -> StaticConv | None:
    """Return the static convolution that a node is, if it is one."""
    dequantize = graph.made_by(node.inputs[0], "DequantizeLinear")
    weight = graph.made_by(node.inputs[1], "Weight")
    if dequantize is None or weight is None:
        return None
    values = (dequantize.inputs[1], *weight.inputs[:2], *node.inputs[2:])
    x_step, codes, step, *bias = (graph.constant(value) for value in values)
    assert x_step is not None and codes is not None and step is not None
    layer = weight.attributes["layer"].as_string()
    step = step.astype(np.float64)
    offset = np.zeros_like(step) if not bias or bias[0] is None else bias[0].astype(np.float64)
    one, zero = np.ones_like(step), np.zeros_like(step)
    return StaticConv(node, layer, float(x_step), codes, step, offset, one, zero)


def _absorb(graph: Graph, conv: StaticConv) -> bool:
    """Fold the batch normalisation or the factor that follows a convolution, if one does."""
    user = graph.only_user(conv.result)
    if user is None:
        return False
    if user.op_type == "BatchNormalization":
        constants = [graph.constant(value) for value in user.inputs[1:]]
        scale, shift, mean, variance = (c.astype(np.float64) for c in constants if c is not None)
        gain = scale / np.sqrt(variance + user.attributes["epsilon"].as_float())
        shift = shift - mean * gain
    elif user.op_type in ("Mul", "Div"):
        first = user.inputs[0] is conv.result
        factor = graph.constant(user.inputs[1] if first else user.inputs[0])
        if factor is None or factor.size != 1 or (user.op_type == "Div" and not first):
            return False
        value = float(factor.item())
        gain, shift = np.asarray(value if user.op_type == "Mul" else 1 / value), np.asarray(0.0)
    else:
        return False
    conv.gain, conv.shift = conv.gain * gain, conv.shift * gain + shift
    graph.drop(user, conv.result)
    return True


def quantize_early(graph: Graph, conv: StaticConv) -> bool:
    """Have a result quantized at once that quantizers alone read, all alike; return whether so.

    Rounding keeps an order, and 0 has a code: ReLU becomes a lowest code. A pixel shuffle may come
    after quantizing as well as before; the quantizer behind it then changes nothing.
    """
    value, between = conv.result, []
    while (user := graph.only_user(value)) is not None and user.op_type in ("Relu", "DepthToSpace"):
        between.append(user)
        value = user.outputs[0]
    readers = graph.users(value)
    if not readers or any(reader.op_type != "QuantizeLinear" for reader in readers):
        return False
    if any(not graph.alike(reader.inputs[1:], readers[0].inputs[1:]) for reader in readers):
        return False
    given = list(readers[0].inputs[1:])
    relus = [node for node in between if node.op_type == "Relu"]
    for node in relus:
        graph.drop(node, node.inputs[0])
    quantized = [reader.outputs[0] for reader in readers]
    if len(relus) < len(between):
        quantized = [put_quantizer(graph, conv, given, given)]
    zero = graph.constant(given[1])
    if relus and zero is not None and zero.any():  # unsigned codes end at 0 anyway
        for codes in quantized:
            graph.insert("Clip", codes, [given[1]], f"{codes.name}_positive")
    return True


def put_quantizer(
    graph: Graph, conv: StaticConv, quantize: list[Any], dequantize: list[Any], **attributes: int
) -> Any:
    """Put QuantizeLinear and DequantizeLinear behind a convolution; return the codes."""
    name = conv.node.name
    codes = graph.insert("QuantizeLinear", conv.result, quantize, f"{name}_codes")
    graph.insert("DequantizeLinear", codes, dequantize, f"{name}_result", **attributes)
    return codes


def write_weights(graph: Graph, conv: StaticConv) -> None:
    """Give a convolution its weight in int8 and its bias in int32, behind DequantizeLinear."""
    step, bias = conv.step * np.abs(conv.gain), conv.bias * conv.gain + conv.shift
    # A kernel of next to nothing gets steps so large that they count its bias, too.
    least = np.maximum(np.abs(bias) / (conv.x_step * LARGEST_BIAS), LEAST_STEP)
    made = np.maximum(step, least).astype(np.float32)
    ratio = np.minimum(step / least, 1) * np.where(conv.gain < 0, -1, 1)
    codes = np.rint(conv.codes * ratio.reshape(-1, 1, 1, 1)).astype(np.int8)
    name, node = conv.node.name, conv.node
    inputs = [
        node.inputs[0],
        _dequantized(graph, conv, "weight", graph.keep(f"{name}.codes", codes), made),
    ]
    if bias.any():
        scale = np.float32(conv.x_step) * made
        counts = graph.keep(f"{name}.bias", np.rint(bias / scale).astype(np.int32))
        inputs.append(_dequantized(graph, conv, "bias", counts, scale))
    graph.rewire(node, inputs)


def _dequantized(graph: Graph, conv: StaticConv, what: str, codes: Any, step: np.ndarray) -> Any:
    name, before = conv.node.name, conv.node.inputs[0].producer()
    # Every node has constants of its own: where ONNX Runtime makes uint8 weights, it changes them.
    zeros = np.zeros(len(step), codes.const_value.numpy().dtype)
    given = [
        codes,
        graph.keep(f"{name}.{what}_step", step),
        graph.keep(f"{name}.{what}_zero", zeros),
    ]
    return graph.add("DequantizeLinear", given, f"{name}_{what}", after=before, axis=0)
