"""ONNX graphs as they are read and edited here, over onnx_ir."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

CONVOLUTIONS = ("Conv", "ConvTranspose")
# Where ways end: convolutions, and what makes sizes of tensors.
ENDS = (*CONVOLUTIONS, "Shape", "Size")
# What changes no numbers.
MOVES = ("Concat", "DepthToSpace", "Pad", "Reshape", "Slice", "Split", "Transpose")


class Graph:
    """An onnx_ir graph: what reads a value, what is constant, and nodes put in their places."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def nodes(self, *ops: str) -> list[Any]:
        """Return the nodes of some operations, in order."""
        return [node for node in self.graph if node.op_type in ops]

    def users(self, value: Any) -> list[Any]:
        """Return the nodes that read a value; none where the network returns it."""
        return [] if value.is_graph_output() else [use.node for use in value.uses()]

    def only_user(self, value: Any) -> Any:
        """Return the one node that reads a value, once, or None."""
        users = self.users(value)
        return users[0] if len(users) == 1 else None

    def made_by(self, value: Any, op: str) -> Any:
        """Return the node that makes a value if it is of that operation, or None."""
        node = None if value is None else value.producer()
        return node if node is not None and node.op_type == op else None

    def constant(self, value: Any) -> np.ndarray | None:
        """Return what a value always is, or None."""
        from onnx_ir.convenience import get_const_tensor

        tensor = None if value is None else get_const_tensor(value)
        return None if tensor is None else tensor.numpy()

    def alike(self, some: Sequence[Any], others: Sequence[Any]) -> bool:
        """Return whether two rows of values are the same constants."""
        pairs = [(self.constant(a), self.constant(b)) for a, b in zip(some, others, strict=True)]
        return all(a is not None and b is not None and np.array_equal(a, b) for a, b in pairs)

    def becomes_output(self, value: Any) -> bool:
        """Return whether a value reaches the network's output by a way without convolutions."""
        seen, found = set(), [value]
        while found:
            value = found.pop()
            if value.is_graph_output():
                return True
            if value not in seen:
                seen.add(value)
                users = (user for user in self.users(value) if user.op_type not in ENDS)
                found += [result for user in users for result in user.outputs]
        return False

    def comes_from_input(self, value: Any) -> bool:
        """Return whether the network's input reaches a value by a way without convolutions."""
        seen, found = set(), [value]
        while found:
            value = found.pop()
            if value.is_graph_input():
                return True
            node = value.producer()
            if value not in seen and node is not None and node.op_type not in ENDS:
                seen.add(value)
                found += [each for each in node.inputs if each is not None]
        return False

    def only_quantized(self, value: Any) -> bool:
        """Return whether quantizers alone read a value, or parts or arrangements of it."""
        return not value.is_graph_output() and all(
            user.op_type == "QuantizeLinear"
            or (user.op_type in MOVES and all(map(self.only_quantized, user.outputs)))
            for user in self.users(value)
        )

    def keep(self, name: str, array: Any) -> Any:
        """Return a constant: that of this name, if it is the same, or a new one."""
        import onnx_ir as ir

        array = np.asarray(array)
        while (there := self.graph.initializers.get(name)) is not None:
            known = there.const_value.numpy()
            if known.dtype == array.dtype and np.array_equal(known, array):
                return there
            name += "_"
        tensor = ir.tensor(array, name=name)
        kind = ir.TensorType(tensor.dtype)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=kind, const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def add(self, op: str, inputs: list[Any], name: str, *, after: Any, **attributes: int) -> Any:
        """Put a node behind another one; return its value. Both have that name."""
        import onnx_ir as ir

        node = ir.node(op, inputs, attributes, name=name)
        node.outputs[0].name = name
        self.graph.insert_after(after, node)
        return node.outputs[0]

    def insert(self, op: str, value: Any, given: list[Any], name: str, **attributes: int) -> Any:
        """Put a node between a value and all that reads it; return the node's value."""
        users = list(value.uses())
        made = self.add(op, [value, *given], name, after=value.producer(), **attributes)
        for user, index in users:
            user.replace_input_with(index, made)
        if value.is_graph_output():
            made.shape, made.type = value.shape, value.type
            outputs = self.graph.outputs
            outputs[outputs.index(value)] = made
        return made

    def drop(self, node: Any, value: Any) -> None:
        """Take out a node; what read its result reads `value` instead."""
        node.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)

    def rewire(self, node: Any, inputs: list[Any]) -> None:
        """Give a node other inputs, of any number."""
        node.resize_inputs(len(inputs))
        for index, value in enumerate(inputs):
            node.replace_input_with(index, value)
