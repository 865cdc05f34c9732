"""From a traced network to its Plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import fx, nn

from ptqsr.errors import PtqsrError
from ptqsr.lowering.channels import Channels
from ptqsr.lowering.plan import (
    Convolve,
    Encode,
    Float,
    Normalise,
    Piece,
    Plan,
    Record,
    Source,
    Statistics,
)
from ptqsr.lowering.rules import Fusion, absorb
from ptqsr.lowering.trace import Traced
from ptqsr.modules import Codes, FakeQuantConv2d, IntegerConv, SubsetCodes, UniformCodes

# What a layer is in integers; raises PtqsrError, with the reason, where it is nothing.
AsIntegers = Callable[[FakeQuantConv2d], IntegerConv]


def lower(traced: Traced, as_integers: AsIntegers) -> Plan:
    """Return the Plan of a traced network.

    Raises PtqsrError where the network gives something else than one tensor.
    """
    return _Lowering(traced, as_integers).plan()


class _Lowering:
    def __init__(self, traced: Traced, as_integers: AsIntegers) -> None:
        self.traced = traced
        self.channels = Channels(traced)
        self.why: dict[fx.Node, str] = {}
        self.convs: dict[fx.Node, IntegerConv] = {}
        self.fusions: dict[fx.Node, Fusion] = {}  # by the node whose value they make
        self.inner: set[fx.Node] = set()  # what they absorbed on the way to it
        for node in traced.graph.nodes:
            self._fuse(node, as_integers)
        self.coded = self._requantized()
        # How many convolutions take the same codes of a tensor.
        self.takers = Counter(
            (part, codes.key()) for node in self.convs for part, codes in self._parts(node)
        )
        self.emitting = self._emitting()
        self.records: list[Record] = []
        self.made: dict[object, str] = {}  # what was emitted on the way, and its name

    def plan(self) -> Plan:
        inputs, output = [], None
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                inputs.append(node.name)
            elif node.op == "output":
                output = node.args[0]
            elif node in self.fusions:
                self._convolve(self.fusions[node])
            elif node not in self.inner:
                tensor = self.traced.tensor(node)
                module = self.traced.module(node)
                self.records.append(Float(node.name, node, module, tensor, self.why.get(node)))
        if not isinstance(output, fx.Node):
            raise PtqsrError("the network gives something else than one tensor")
        return Plan(tuple(inputs), tuple(_alive(self.records, output.name)), output.name)

    def _fuse(self, node: fx.Node, as_integers: AsIntegers) -> None:
        """Begin at a convolution, if the node is one."""
        layer = self.traced.module(node)
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            self.why[node] = "not quantized"
        if not isinstance(layer, FakeQuantConv2d):
            return
        source = node.all_input_nodes[0]
        if len(self.traced.shapes.get(source, ())) != 4:
            self.why[node] = "its input is not float32 [N, C, H, W]"
            return
        try:
            conv = self.convs[node] = as_integers(layer)
        except PtqsrError as reason:
            self.why[node] = str(reason)
            return
        bias = None if conv.bias is None else conv.bias.double()
        fusion = Fusion(node, node, torch.ones_like(conv.step, dtype=torch.float64), bias)
        absorb(fusion, self.traced, self.fusions.keys() | self.inner)
        chain = node
        while chain is not fusion.last:
            self.inner.add(chain)
            (chain,) = chain.users
        self.fusions[fusion.last] = fusion

    def _parts(self, node: fx.Node) -> Iterable[tuple[fx.Node, Codes]]:
        """Return the tensors that a convolution reads side by side, and how each is encoded."""
        start = 0
        for part in self.channels.parts(node.all_input_nodes[0]):
            stop = start + self.traced.shapes[part][1]
            yield part, self.convs[node].codes.channels(start, stop)
            start = stop

    def _requantized(self) -> dict[fx.Node, UniformCodes]:
        """Return the results that only convolutions read, all with one uniform quantizer."""
        found = {}
        for last, fusion in self.fusions.items():
            readers = self._readers(last)
            if not isinstance(self.convs[fusion.node].codes, UniformCodes) or not readers:
                continue
            quantizers = [self.convs[reader].codes for reader in readers]
            first = quantizers[0]
            if isinstance(first, UniformCodes) and len({q.key() for q in quantizers}) == 1:
                found[last] = first
        return found

    def _readers(self, node: fx.Node) -> list[fx.Node]:
        """Return the convolutions that read a tensor; none where something else needs it too."""
        found: list[fx.Node] = []
        for user in node.users:
            if user in self.convs:
                found.append(user)
            elif self.channels.is_cat(user) and (others := self._readers(user)):
                found += others
            else:
                return []
        return found

    def _emitting(self) -> set[fx.Node]:
        """Return the tensors whose statistics a subset convolution that makes them can give."""
        return {
            piece.node
            for node, conv in self.convs.items()
            if isinstance(conv.codes, SubsetCodes)
            for piece in self.channels.pieces(node.all_input_nodes[0])
            if piece.node in self.fusions
            and isinstance(self.convs[self.fusions[piece.node].node].codes, SubsetCodes)
        }

    def _convolve(self, fusion: Fusion) -> None:
        conv, last = self.convs[fusion.node], fusion.last
        sources = tuple(self._source(part, codes) for part, codes in self._parts(fusion.node))
        folded = replace(
            conv,
            step=(conv.step.double() * fusion.gain).to(torch.float32),
            bias=None if fusion.bias is None else fusion.bias.to(torch.float32),
        )
        self.records.append(
            Convolve(
                name=last.name,
                layer=str(fusion.node.target),
                conv=folded,
                sources=sources,
                activation=fusion.activation,
                slope=fusion.slope,
                residual=None if fusion.residual is None else fusion.residual.name,
                last_activation=fusion.last_activation,
                shuffle=fusion.shuffle,
                statistics=last in self.emitting,
                out=self.coded.get(last),
                absorbed=tuple(fusion.absorbed),
            )
        )

    def _source(self, part: fx.Node, codes: Codes) -> Source:
        """Return how a convolution reads a tensor, after what it needs has been emitted."""
        if part in self.coded:
            return Source(part.name, None, True)
        normalised = None
        if isinstance(codes, SubsetCodes):
            normalised = self._normalised(part, codes)
        key = (part, codes.key())
        if self.takers[key] < 2:
            return Source(part.name, normalised, False)
        if key not in self.made:
            self.made[key] = name = f"{part.name}_codes{len(self.made)}"
            self.records.append(Encode(name, part.name, codes, normalised))
        return Source(self.made[key], normalised, True)

    def _normalised(self, part: fx.Node, codes: SubsetCodes) -> str:
        key = ("normalised", part, codes.nonnegative.cpu().numpy().tobytes())
        if key not in self.made:
            pieces = self.channels.pieces(part)
            for piece in pieces:
                if piece.node not in self.emitting and ("statistics", piece.node) not in self.made:
                    self.made["statistics", piece.node] = piece.node.name
                    self.records.append(Statistics(piece.node.name))
            self.made[key] = name = f"{part.name}_normalised{len(self.made)}"
            named = tuple(Piece(p.node.name, p.start, p.stop, p.whole) for p in pieces)
            self.records.append(Normalise(name, named, codes.nonnegative))
        return self.made[key]


def _alive(records: list[Record], output: str) -> list[Record]:
    """Return the records whose results the output needs."""
    needed, kept = {output}, []
    for record in reversed(records):
        if record.makes & needed:
            needed |= record.needs
            kept.append(record)
    return kept[::-1]
