"""What tensors are made of along their channels: concatenations, slices, splits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from ptqsr.lowering.rules import argument
from ptqsr.lowering.trace import Traced

CATS = {torch.cat, torch.concat, torch.concatenate}
SPLITS = {torch.split, torch.chunk, "split", "chunk"}


@dataclass(frozen=True)
class Span:
    """Channels start to stop of a node's tensor; `whole`: that is all of them."""

    node: fx.Node
    start: int
    stop: int
    whole: bool


class Channels:
    """Follows channels to the tensors that they were made in."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced

    def is_cat(self, node: fx.Node) -> bool:
        """Return whether a node puts tensors side by side along their channels."""
        if node.op != "call_function" or node.target not in CATS:
            return False
        tensors = argument(node, 0, "tensors", ())
        dim = argument(node, 1, "dim", node.kwargs.get("axis", 0))
        shapes = self.traced.shapes
        return (
            dim in (1, -3)
            and isinstance(tensors, (list, tuple))
            and all(isinstance(t, fx.Node) and len(shapes.get(t, ())) == 4 for t in tensors)
        )

    def parts(self, node: fx.Node) -> list[fx.Node]:
        """Return the tensors that a concatenation puts side by side, or the tensor itself."""
        if not self.is_cat(node):
            return [node]
        return [part for tensor in argument(node, 0, "tensors", ()) for part in self.parts(tensor)]

    def pieces(self, node: fx.Node) -> list[Span]:
        """Return where a tensor's channels were made, in order."""
        if self.is_cat(node):
            tensors = argument(node, 0, "tensors", ())
            return [piece for tensor in tensors for piece in self.pieces(tensor)]
        channels = self.traced.shapes[node][1]
        sliced = self._sliced(node)
        if sliced is None:
            return [Span(node, 0, channels, True)]
        source, start = sliced
        found, end = [], 0
        for piece in self.pieces(source):
            begin, end = end, end + piece.stop - piece.start
            low, high = max(begin, start), min(end, start + channels)
            if low < high:
                offset = piece.start - begin
                whole = piece.whole and (low, high) == (begin, end)
                found.append(Span(piece.node, low + offset, high + offset, whole))
        return found

    def _sliced(self, node: fx.Node) -> tuple[fx.Node, int] | None:
        """Return (tensor, first channel) where a node takes neighbouring channels of another."""
        if node.op == "call_function" and node.target is getattr:
            return None
        if not node.args or not isinstance(node.args[0], fx.Node):
            return None
        source = node.args[0]
        if _is_getitem(node):
            index = node.args[1]
            if isinstance(index, int):
                return self._split(source, index)
            return self._slice(source, index)
        if node.target in (torch.narrow, "narrow") and len(self.traced.shapes.get(source, ())) == 4:
            dim, start = argument(node, 1, "dim", None), argument(node, 2, "start", None)
            if dim in (1, -3) and isinstance(start, int) and start >= 0:
                return source, start
        return None

    def _slice(self, source: fx.Node, index: object) -> tuple[fx.Node, int] | None:
        shape = self.traced.shapes.get(source, ())
        if len(shape) != 4 or not isinstance(index, tuple) or len(index) < 2:
            return None
        first, second, *rest = index
        if any(part not in (slice(None), Ellipsis) for part in (first, *rest)):
            return None
        if first is Ellipsis or not isinstance(second, slice):
            return None
        ends = (second.start, second.stop, second.step)
        if not all(end is None or isinstance(end, int) for end in ends):
            return None
        start, _, step = second.indices(shape[1])
        return (source, start) if step == 1 else None

    def _split(self, node: fx.Node, index: int) -> tuple[fx.Node, int] | None:
        sizes = self.traced.splits.get(node)
        if node.target not in SPLITS or sizes is None or not isinstance(node.args[0], fx.Node):
            return None
        if argument(node, 2, "dim", 0) not in (1, -3):
            return None
        source = node.args[0]
        if len(self.traced.shapes.get(source, ())) != 4:
            return None
        return source, sum(sizes[: index % len(sizes)])


def _is_getitem(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"
