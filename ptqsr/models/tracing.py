"""A network's steps as a torch.fx graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from ptqsr.models.base import shell, sketch

# Heights and widths of pictures: none, one, many, odd, prime, divisible.
SIZES = ((1, 1), (2, 3), (7, 16), (17, 13), (48, 64), (96, 97), (270, 480), (1080, 1921))


class Tracer(fx.Tracer):
    """Decides conditions on a picture's size that come out alike for every size that is tried.

    Networks that pad their input ask whether there is anything to pad, also where there never is.
    `inputs(height, width)` gives a method's inputs of a size, on the meta device. It is the copy
    `root` that is traced, which shares its tensors with the network.
    """

    def __init__(
        self,
        inputs: Callable[[int, int], Sequence[torch.Tensor]],
        method: str = "forward",
        leaves: tuple[type[nn.Module], ...] = (),
    ) -> None:
        super().__init__()
        self.traced_func_name = method
        self.inputs, self.leaves = inputs, leaves

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        copy = shell(root)
        graph = super().trace(copy, concrete_args)
        # What a network keeps on its way is a stand-in now: take what it was.
        for module, traced in zip(root.modules(), copy.modules(), strict=True):
            held = vars(module).items()
            vars(traced).update((n, value) for n, value in held if isinstance(value, torch.Tensor))
        return graph

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, self.leaves):
            return True
        # PyTorch's own are leaves, too, but for those that hold some of ours.
        holds = any(isinstance(inner, self.leaves) for inner in m.modules())
        return not holds and super().is_leaf_module(m, module_qualified_name)

    def to_bool(self, obj: Any) -> bool:
        try:
            with torch.no_grad(), torch.device("meta"):
                found = {self._value(obj.node, *size) for size in SIZES}
        except Exception:  # of values, or of a size that the network does not take
            found = set()
        return found.pop() if len(found) == 1 else super().to_bool(obj)

    def _value(self, node: fx.Node, height: int, width: int) -> bool:
        """Return what a condition comes out as for a picture of that size."""
        assert isinstance(self.root, nn.Module)
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        needed = _ancestors(node)
        for other in self.graph.nodes:
            if other in needed or other.op == "placeholder":
                copies[other] = graph.node_copy(other, copies.__getitem__)
        graph.output(copies[node])
        return bool(fx.Interpreter(sketch(self.root), graph=graph).run(*self.inputs(height, width)))


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found, waiting = {node}, [node]
    while waiting:
        new = set(waiting.pop().all_input_nodes) - found
        found |= new
        waiting += new
    return found


def as_graph(module: nn.Module, shape: Sequence[int]) -> fx.GraphModule:
    """Return what a module does to pictures, torch.Size [N, C, H, W], without anything else.

    Parameters are the module's own. Raises whatever the module does where it cannot be traced.
    """

    def inputs(height: int, width: int) -> tuple[torch.Tensor]:
        return (torch.empty((*shape[:2], height, width), device="meta"),)

    tracer = Tracer(inputs)
    graph = tracer.trace(module)
    made = fx.GraphModule(tracer.root, graph)
    made.graph.eliminate_dead_code()
    return fx.GraphModule(made, made.graph)
