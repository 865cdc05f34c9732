"""From a PyTorch module to an ONNX model."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ptqsr.errors import PtqsrError, one_line
from ptqsr.exporting.graph import Graph
from ptqsr.exporting.layers import WEIGHT
from ptqsr.exporting.results import Range, arrange
from ptqsr.exporting.standard import OPSET

PICTURE, ENLARGED = "picture", "enlarged"
DIMENSIONS = {0: "batch", 2: "height", 3: "width"}


def program_of(module: nn.Module, x: torch.Tensor) -> torch.export.ExportedProgram:
    """Return a module as a program for inputs like x of any number and size.

    x: [2 or more, C, H, W], its sides no multiples of each other. Raises PtqsrError, with the
    reason, where PyTorch cannot follow the module.
    """
    sizes = {axis: torch.export.Dim(name) for axis, name in DIMENSIONS.items()}
    with telling("PyTorch cannot export the network for any size"), quiet(), torch.no_grad():
        return torch.export.export(module, (x,), dynamic_shapes=(sizes,), strict=False)


def translate(program: torch.export.ExportedProgram, x: torch.Tensor) -> Any:
    """Return a program as an ONNX model (onnx_ir.Model), its weights marked as `layers` says."""
    with telling("the network has no ONNX form"), quiet():
        made = torch.onnx.export(
            program,
            (x,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[PICTURE],
            output_names=[ENLARGED],
        )
    assert made is not None
    _name_sizes(made.model.graph)
    return made.model


def finish(model: Any, ranges: Mapping[str, Range]) -> dict[str, int]:
    """Make standard ONNX of a translated model; return the levels of quantized results by layer.

    ranges: see `results.arrange`.
    """
    from onnx_ir.passes import common

    graph = Graph(model.graph)
    _name_layers(graph)
    levels = arrange(graph, ranges)
    for node in graph.nodes("Weight"):
        name = f"{node.attributes['layer'].as_string()}_weight"
        made = graph.add("DequantizeLinear", list(node.inputs), name, after=node, axis=0)
        graph.drop(node, made)
    model.opset_imports.pop(WEIGHT.partition("::")[0], None)
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    for node in model.graph:  # shapes that were, before nodes moved
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = value.type = None
    # They name files of the machine that exported.
    common.ClearMetadataAndDocStringPass()(model)
    return levels


def write(model: Any, path: Path, metadata: Mapping[str, str]) -> None:
    """Check a model and write it, with metadata; one file."""
    import onnx
    import onnx_ir as ir

    model.metadata_props.update(metadata)
    model.producer_name = "ptqsr"
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def write_static(module: nn.Module, x: torch.Tensor, path: Path) -> None:
    """Write a module as a float32 ONNX file for inputs of the shape of x alone."""
    with quiet(), torch.inference_mode():
        torch.onnx.export(module, (x,), path, dynamo=True, verbose=False, external_data=False)


def _name_sizes(graph: Any) -> None:
    """Call the sizes by their names, also where others are computed from them."""
    (picture,) = graph.inputs
    named = {str(picture.shape[axis]): name for axis, name in DIMENSIONS.items()}
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, named))})\b")
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for value in values:
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int):
                value.shape[axis] = pattern.sub(lambda found: named[found[1]], str(size))


def _name_layers(graph: Graph) -> None:
    """Name convolutions after their layers; those that run several times get a number, too."""
    seen: dict[str, int] = {}
    for node in graph.graph:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        weight = graph.made_by(node.inputs[1], "Weight")
        layer = (
            node.inputs[1].name.removesuffix(".weight")
            if weight is None
            else weight.attributes["layer"].as_string()
        )
        seen[layer] = seen.get(layer, 0) + 1
        node.name = layer if seen[layer] == 1 else f"{layer}#{seen[layer]}"


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Make one line of what other people's code raises: users' modules and exporters alike."""
    try:
        yield
    except (PtqsrError, MemoryError, OSError):
        raise
    except Exception as error:
        raise PtqsrError(f"{what} ({one_line(error)})") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the notices of exporters and quantizers off the terminal; errors are exceptions."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
