"""From a network to a graph of its steps, with the shape of every tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from ptqsr.errors import PtqsrError, one_line
from ptqsr.models import SRNetwork, sketch
from ptqsr.models.layers import BicubicUpsample, MeanShift
from ptqsr.modules import FakeQuantConv2d, sense

LEAVES = (FakeQuantConv2d, MeanShift, BicubicUpsample)
# Of the picture with which shapes are found: several samples, so that a parameter's shape is not
# taken for a feature's, and sides that differ.
SAMPLES, HEIGHT, WIDTH = 2, 48, 64


@dataclass(frozen=True, eq=False)
class Traced:
    """A graph of `network`'s steps.

    `shapes`: of the float32 tensors among its nodes. `splits`: for nodes that give several tensors
    [N, C, H, W], the numbers of channels.
    """

    graph: fx.Graph
    network: SRNetwork
    shapes: dict[fx.Node, tuple[int, ...]]
    splits: dict[fx.Node, list[int]]

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls, if it does."""
        return self.network.get_submodule(str(node.target)) if node.op == "call_module" else None

    def tensor(self, node: Any) -> torch.Tensor | None:
        """Return the parameter or buffer that a node stands for, if it does."""
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            return None
        owner, _, name = str(node.target).rpartition(".")
        found = getattr(self.network.get_submodule(owner), name)
        return found.detach() if isinstance(found, torch.Tensor) else None


def trace(network: SRNetwork, method: str) -> Traced:
    """Return the steps of a network's `forward`, `features` or `reconstruct`.

    Raises PtqsrError, with the reason, where they cannot be known without a picture, or where a
    tensor is changed while others read it.
    """
    try:
        graph = _Tracer(method).trace(network)
        watch = _Watch(network, graph)
        with torch.no_grad(), torch.device("meta"):
            watch.run(*_inputs(network, method))
    except PtqsrError:
        raise
    except Exception as error:
        # User's modules raise anything when they are given no values.
        raise PtqsrError(one_line(f"{type(error).__name__}: {error}")) from error
    for node, changed in watch.changed.items():
        _check_change(graph, node, watch.storages, changed)
    return Traced(graph, network, watch.shapes, watch.splits)


class _Tracer(fx.Tracer):
    def __init__(self, method: str) -> None:
        super().__init__()
        self.traced_func_name = method

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)


def _inputs(network: SRNetwork, method: str) -> Iterator[torch.Tensor]:
    channels = 1 if network.colours == "y" else 3
    x = torch.empty((SAMPLES, channels, HEIGHT, WIDTH))
    yield x
    if method == "reconstruct":
        drawn = sketch(network)
        sense(drawn)
        yield drawn.features(x)


class _Watch(fx.Interpreter):
    """Runs a graph on the meta device; notes shapes, storages, and what is changed in place."""

    def __init__(self, network: SRNetwork, graph: fx.Graph) -> None:
        super().__init__(sketch(network), garbage_collect_values=False, graph=graph)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.splits: dict[fx.Node, list[int]] = {}
        self.storages: dict[fx.Node, set[int]] = {}
        self.changed: dict[fx.Node, set[int]] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = self.fetch_attr(target)
        if isinstance(layer, FakeQuantConv2d):  # whose quantizer may depend on values
            x = args[0] if args else kwargs["input"]
            return layer._conv_forward(x, layer.weight, layer.bias)
        return super().call_module(target, args, kwargs)

    def run_node(self, n: fx.Node) -> Any:
        given = [t for arg in n.all_input_nodes for t in _tensors(self.env[arg])]
        versions = [t._version for t in given]
        result = super().run_node(n)
        pairs = zip(given, versions, strict=True)
        if changed := {_storage(t) for t, version in pairs if t._version != version}:
            self.changed[n] = changed
        self.storages[n] = {_storage(t) for t in _tensors(result)}
        if isinstance(result, torch.Tensor) and result.dtype == torch.float32:
            self.shapes[n] = tuple(result.shape)
        elif isinstance(result, (list, tuple)) and all(t.ndim == 4 for t in _tensors(result)):
            self.splits[n] = [t.shape[1] for t in _tensors(result)]
        return result


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _storage(x: torch.Tensor) -> int:
    return x.untyped_storage()._cdata


def _check_change(
    graph: fx.Graph, node: fx.Node, storages: dict[fx.Node, set[int]], changed: set[int]
) -> None:
    """Raise PtqsrError where others than `node` read, or own, what it changes.

    Steps move when they are fused: what is changed in place must have this one reader.
    """
    before = []
    for other in graph.nodes:
        if other is node:
            break
        if storages[other] & changed:
            before.append(other)
    for owner in before:
        others = [user for user in owner.users if user is not node and user not in before]
        if others or owner.op in ("placeholder", "get_attr"):
            raise PtqsrError(f"{owner} is changed in place by {node} while others read it")
