"""Int8 forms of float ONNX files by ONNX Runtime's own tool: peers to time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ptqsr.exporting import quiet


def quantize(source: Path, target: Path, layers: tuple[str, ...] | None, x: torch.Tensor) -> None:
    """Write an int8 (QDQ) form of a float32 file: static, calibrated on x and on noise.

    Activations are uint8, which ONNX Runtime runs several times faster than int8, weights int8 per
    output channel. `layers` names the convolutions to quantize, with the additions and activations
    that follow them; None quantizes all that ONNX Runtime can. Its latency is what counts: its
    pictures are none.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    graph = onnx.load(source).graph
    name = graph.input[0].name
    inputs = [{name: each.numpy()} for each in (x, torch.rand_like(x))]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Any:
            return inputs.pop() if inputs else None

    with quiet():
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_quantize=None if layers is None else nodes(graph, layers),
        )


def nodes(graph: Any, layers: tuple[str, ...]) -> list[str]:
    """Return the names of the nodes that stand for these convolutions and for what follows them.

    That is elementwise nodes and concatenations up to the next convolution. Raises ValueError
    where a layer is not found by the name of its weight.
    """
    missing = set(layers)
    chosen: list[str] = []
    reached: set[str] = set()
    for node in graph.node:  # in topological order
        if node.op_type == "Conv":
            layer = node.input[1].removesuffix(".weight")
            follows = layer in layers
            missing.discard(layer)
        else:
            follows = node.op_type in FOLLOWING and bool(reached & set(node.input))
        if follows:
            chosen.append(node.name)
            reached |= set(node.output)
    if missing:
        raise ValueError(f"layer {sorted(missing)[0]} is not in the exported network")
    return chosen


FOLLOWING = ("Relu", "LeakyRelu", "Add", "Concat", "Split", "Slice")
