"""From a Plan to a function that PyTorch runs, compiles and exports.

The function calls operations of ptqsr, whose kernels PyTorch's dispatcher chooses by device; it
forgets every tensor after its last use.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import singledispatchmethod
from typing import Any

import torch
from torch import fx

from ptqsr import ops
from ptqsr.deployment.store import Store
from ptqsr.lowering import (
    PICTURES,
    Choose,
    Convolve,
    DropIn,
    Encode,
    Float,
    Measure,
    Moments,
    Normalise,
    Piece,
    Plan,
    Record,
    Statistics,
    moments_of,
    statistics_of,
)
from ptqsr.modules import FakeQuantConv2d, SubsetCodes, UniformCodes, levels_tensor
from ptqsr.quantizers import measures

# Takes the store, then what the Plan's inputs are.
Program = Callable[..., torch.Tensor]


def program(plan: Plan, store: Store) -> Program:
    """Return the function that carries a Plan out; its constants go to the store."""
    return _Writer(plan, store).program()


class _Writer:
    """Writes a graph of the Plan's steps."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.graph = fx.Graph()
        self.made: dict[str, Any] = {}  # a node, or a tuple of them
        self.constants: dict[str, fx.Node] = {}

    def program(self) -> Program:
        for name in self.plan.inputs:
            self.made[name] = self.graph.placeholder(name)
        for record in self.plan.records:
            self.write(record)
        self.graph.output(self.made[self.plan.output])
        self.graph.lint()
        code = self.graph.python_code("self")
        names = dict(code.globals)
        exec(compile(code.src, "<a plan of ptqsr>", "exec"), names)
        return names["forward"]

    @singledispatchmethod
    def write(self, record: Record) -> None:
        raise TypeError(f"no program for {record}")

    @write.register
    def _(self, record: Float) -> None:
        given = {node.name: self.made[node.name] for node in record.node.all_input_nodes}
        # A simulated layer has parameters that are float32, whatever is around it.
        simulated = isinstance(record.module, FakeQuantConv2d)
        changes = self.plan.floats != torch.float32
        apart = simulated and changes
        if apart:
            given = {name: self._cast(x, torch.float32) for name, x in given.items()}
        node = self.graph.node_copy(record.node, lambda node: given[node.name])
        if record.module is not None:
            dtype = self.plan.floats if changes and not simulated else None
            node.target = self.store.layer(record.module, str(node.target), dtype)
        elif record.tensor is not None:
            tensor = record.tensor
            if changes and tensor.is_floating_point():
                tensor = tensor.to(self.plan.floats)
            node.target = self.store.constant(tensor, str(node.target))
        self.made[record.name] = self._cast(node, self.plan.floats) if apart else node

    @write.register
    def _(self, record: Statistics) -> None:
        triple = self.graph.call_function(ops.channel_stats, (self.made[record.tensor],))
        self.made[statistics_of(record.tensor)] = self._unpack(triple, 3)

    @write.register
    def _(self, record: Moments) -> None:
        pair = self.graph.call_function(ops.channel_moments, (self.made[record.tensor],))
        self.made[moments_of(record.tensor)] = self._unpack(pair, 2)

    @write.register
    def _(self, record: Measure) -> None:
        self.made[PICTURES] = self.graph.call_function(measures, (self.made[record.tensor],))

    @write.register
    def _(self, record: Choose) -> None:
        known, at = (statistics_of, (1, 2)) if record.extremes else (moments_of, (0, 1))
        columns = [self._column(record.pieces, known, i) for i in at if record.pieces]
        chooser = self.store.chooser(record.quantizer, record.layer)
        arguments = (self.made[PICTURES], *columns)
        node = self.graph.create_node("call_module", chooser, arguments)
        self.made[record.name] = self._unpack(node, 3)

    @write.register
    def _(self, record: Normalise) -> None:
        columns = [self._column(record.pieces, statistics_of, i) for i in range(3)]
        flags = self._constant(record.nonnegative, f"{record.name}_nonnegative")
        pair = self.graph.call_function(ops.normalisation, (*columns, flags))
        self.made[record.name] = self._unpack(pair, 2)

    @write.register
    def _(self, record: Encode) -> None:
        x, codes = self.made[record.tensor], record.codes
        function: Callable[..., Any]
        arguments: tuple[Any, ...]
        if isinstance(codes, SubsetCodes):
            assert record.normalised is not None
            points = self._constant(codes.points, f"{record.name}_points")
            mean, scale = self.made[record.normalised]
            function, arguments = ops.subset_encode, (x, points, codes.denominator, mean, scale)
        else:
            assert isinstance(codes, UniformCodes)
            step = self._constant(codes.step, f"{record.name}_step")
            lowest = self._constant(codes.lowest, f"{record.name}_lowest")
            for tensor, does in ((codes.shift, operator.add), (codes.gain, operator.mul)):
                if tensor is not None:
                    constant = self._constant(tensor, f"{record.name}_{does.__name__}")
                    x = self.graph.call_function(does, (x, constant))
            function, arguments = ops.uniform_encode, (x, step, lowest, codes.bits)
        made = self.graph.call_function(function, arguments)
        if isinstance(codes, UniformCodes) and codes.levels < 1 << codes.bits:
            made = self.graph.call_function(torch.clamp, (made, None, codes.levels - 1))
        self.made[record.name] = made

    @write.register
    def _(self, record: Convolve) -> None:
        conv, codes, hint = record.conv, record.conv.codes, record.layer
        x = [self.made[source.tensor] for source in record.sources]
        geometry: list[Any] = [
            list(conv.stride),
            list(conv.padding),
            list(conv.dilation),
            conv.groups,
        ]
        weight = (
            self._constant(conv.levels, f"{hint}_levels"),
            self._constant(conv.step, f"{hint}_step"),
            None if conv.bias is None else self._constant(conv.bias, f"{hint}_bias"),
        )
        slope = None if record.slope is None else self._constant(record.slope, f"{hint}_slope")
        residual = None if record.residual is None else self.made[record.residual]
        last = (record.last_activation, record.shuffle)
        if isinstance(codes, SubsetCodes):
            pairs = [self.made[str(source.normalised)] for source in record.sources]
            mean, scale = (self._joined([pair[i] for pair in pairs]) for i in (0, 1))
            points = self._constant(codes.points, f"{hint}_points")
            result = self.graph.call_function(
                torch.ops.ptqsr.subset_conv2d.default,
                (x, points, mean, scale, codes.denominator, *weight, *geometry,
                 record.activation, slope, residual, *last, record.dtype, record.statistics),
            )  # fmt: skip
            made = self._unpack(result, 4 if record.statistics else 1)
            self.made[record.name] = made[0]
            self.made[statistics_of(record.name)] = made[1:]
            return
        step, lowest, levels = self._quantizer(record)
        out: tuple[Any, ...] = (None, None, 8)
        out_levels = None
        if record.out is not None:
            out_step = self._constant(record.out.step, f"{hint}_out_step")
            out_lowest = self._constant(record.out.lowest, f"{hint}_out_lowest")
            out, out_levels = (out_step, out_lowest, record.out.bits), record.out.levels
        arguments = (
            x, step, lowest, codes.bits, *weight, *geometry, record.activation, slope, residual,
            None, None, *last, record.dtype, *out, levels, out_levels,
        )  # fmt: skip
        if not record.moments:
            operation = torch.ops.ptqsr.uniform_conv2d.default
            self.made[record.name] = self.graph.call_function(operation, arguments)
            return
        operation = torch.ops.ptqsr.uniform_conv2d_moments.default
        made = self._unpack(self.graph.call_function(operation, arguments), 3)
        self.made[record.name] = made[0]
        self.made[moments_of(record.name)] = made[1:]

    @write.register
    def _(self, record: DropIn) -> None:
        raise TypeError("a network that was not traced has no program")

    def _quantizer(self, record: Convolve) -> tuple[Any, ...]:
        """Return what a uniform convolution encodes by: step, lowest level and levels."""
        if record.chosen is not None:
            return self.made[record.chosen]  # type: ignore[no-any-return]
        codes, hint = record.conv.codes, record.layer
        assert isinstance(codes, UniformCodes)
        step = self._constant(codes.step, f"{hint}_in_step")
        lowest = self._constant(codes.lowest, f"{hint}_in_lowest")
        levels = levels_tensor(codes)
        if levels is None:
            return step, lowest, None
        return step, lowest, self._constant(levels, f"{hint}_in_levels")

    def _column(self, pieces: tuple[Piece, ...], known: Callable[[str], str], i: int) -> fx.Node:
        """Return number i of what is known of the channels of pieces, side by side."""
        return self._joined(
            [
                found if piece.whole else self._channels(found, piece.start, piece.stop)
                for piece in pieces
                for found in (self.made[known(piece.tensor)][i],)
            ]
        )

    def _constant(self, tensor: torch.Tensor, hint: str) -> fx.Node:
        name = self.store.constant(tensor, hint)
        if name not in self.constants:
            self.constants[name] = self.graph.create_node("get_attr", name)
        return self.constants[name]

    def _cast(self, node: fx.Node, dtype: torch.dtype) -> fx.Node:
        return self.graph.call_method("to", (node, dtype))

    def _unpack(self, node: fx.Node, count: int) -> tuple[fx.Node, ...]:
        return tuple(self.graph.call_function(operator.getitem, (node, i)) for i in range(count))

    def _joined(self, nodes: list[fx.Node]) -> fx.Node:
        if len(nodes) == 1:
            return nodes[0]
        return self.graph.call_function(torch.cat, (nodes, 1))

    def _channels(self, node: fx.Node, start: int, stop: int) -> fx.Node:
        return self.graph.call_function(torch.narrow, (node, 1, start, stop - start))
