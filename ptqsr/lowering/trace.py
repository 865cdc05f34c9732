"""From a network to a graph of its steps, with the shape of every tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from ptqsr.errors import PtqsrError, one_line
from ptqsr.models import SRNetwork, sketch
from ptqsr.models.fitting import Fit
from ptqsr.models.layers import BicubicUpsample, MeanShift
from ptqsr.models.tracing import Tracer
from ptqsr.modules import FakeQuantConv2d

LEAVES = (FakeQuantConv2d, MeanShift, BicubicUpsample, Fit)
# Of the picture with which shapes are found: several samples, so that a parameter's shape is not
# taken for a feature's, and sides that differ.
SAMPLES, HEIGHT, WIDTH = 2, 48, 64


@dataclass(frozen=True, eq=False)
class Traced:
    """A graph of `network`'s steps. `root`: what holds the constants that were made on the way.

    `shapes`: of the float32 tensors among its nodes. `splits`: for nodes that give several tensors
    [N, C, H, W], the numbers of channels.
    """

    graph: fx.Graph
    network: SRNetwork
    root: nn.Module
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
        found = getattr(self.root.get_submodule(owner), name)
        return found.detach() if isinstance(found, torch.Tensor) else None


def trace(network: SRNetwork, method: str) -> Traced:
    """Return the steps of a network's `forward`, `features` or `reconstruct`.

    Raises PtqsrError, with the reason, where they cannot be known without a picture, where a
    tensor is changed while others read it, or where a user's `forward` gives something else.
    """

    def inputs(height: int, width: int) -> list[torch.Tensor]:
        return _inputs(network, method, height, width)

    try:
        tracer = Tracer(inputs, method, LEAVES)
        graph = tracer.trace(network)
        watch = _watch(tracer.root, graph, inputs(HEIGHT, WIDTH))
        rewired = [_set_apart(graph, *pair) for pair in watch.given_back.items()]
        if any(rewired):
            watch = _watch(tracer.root, graph, inputs(HEIGHT, WIDTH))
        if method == "forward" and not network.divided:
            _check_same(network, tracer.root, graph)
    except PtqsrError:
        raise
    except Exception as error:
        # User's modules raise anything when they are given no values.
        raise PtqsrError(one_line(f"{type(error).__name__}: {error}")) from error
    for node, changed in watch.changed.items():
        _check_change(graph, node, watch.storages, changed)
    return Traced(graph, network, tracer.root, watch.shapes, watch.splits)


def _inputs(network: SRNetwork, method: str, height: int, width: int) -> list[torch.Tensor]:
    channels = 1 if network.colours == "y" else 3
    x = torch.empty((SAMPLES, channels, height, width), device="meta")
    return [x, sketch(network).features(x)] if method == "reconstruct" else [x]


def _check_same(network: SRNetwork, root: nn.Module, graph: fx.Graph) -> None:
    """Raise PtqsrError where the steps are not those that the network takes when it runs.

    Its Python code may ask whether it is given a tensor, or catch what tracing raises.
    """
    channels = 1 if network.colours == "y" else 3
    x = torch.rand((1, channels, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0))
    made = []
    for run in (network, fx.Interpreter(root, graph=graph).run):
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            made.append(run(x.clone()))
    expected, found = made
    if isinstance(expected, torch.Tensor) and not (
        found.shape == expected.shape
        and torch.allclose(found, expected, 1e-4, 1e-5 * float(expected.abs().max()), True)
    ):
        raise PtqsrError("its steps give another picture than the network")


def _watch(root: nn.Module, graph: fx.Graph, inputs: list[torch.Tensor]) -> _Watch:
    watch = _Watch(root, graph)
    with torch.no_grad(), torch.device("meta"):
        watch.run(*inputs)
    return watch


class _Watch(fx.Interpreter):
    """Runs a graph on the meta device; notes shapes, storages, and what is changed in place.

    `given_back`: of nodes that change a tensor and give it back, the node that made it.
    """

    def __init__(self, network: nn.Module, graph: fx.Graph) -> None:
        super().__init__(sketch(network), garbage_collect_values=False, graph=graph)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.splits: dict[fx.Node, list[int]] = {}
        self.storages: dict[fx.Node, set[int]] = {}
        self.changed: dict[fx.Node, set[int]] = {}
        self.given_back: dict[fx.Node, fx.Node] = {}

    def run_node(self, n: fx.Node) -> Any:
        given = [t for arg in n.all_input_nodes for t in _tensors(self.env[arg])]
        versions = [t._version for t in given]
        result = super().run_node(n)
        pairs = zip(given, versions, strict=True)
        if changed := {_storage(t) for t, version in pairs if t._version != version}:
            self.changed[n] = changed
            for arg in n.all_input_nodes:
                if self.env[arg] is result:
                    self.given_back[n] = arg
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


def _set_apart(graph: fx.Graph, node: fx.Node, made: fx.Node) -> bool:
    """Let those that read a tensor after `node` has changed it read what that gives.

    Where others read it before, or it is an input, `node` changes a copy. Returns whether the graph
    is another now.
    """
    order = {other: number for number, other in enumerate(graph.nodes)}
    others = [user for user in made.users if user is not node]
    for user in others:
        if order[user] > order[node]:
            user.replace_input_with(made, node)
    copied = len(made.users) > 1 or made.op == "placeholder"
    if copied:
        with graph.inserting_before(node):
            node.replace_input_with(made, graph.call_method("clone", (made,)))
    return copied or bool(others)


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
