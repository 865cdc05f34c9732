"""Which steps of a traced network become integer convolutions, and who reads what they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import torch
from torch import fx

from ptqsr.errors import PtqsrError
from ptqsr.lowering.channels import Channels
from ptqsr.lowering.rules import Fusion, absorb
from ptqsr.lowering.trace import Traced
from ptqsr.models.flow import LAYERS
from ptqsr.modules import (
    Codes,
    FakeQuantConv2d,
    IntegerConv,
    SelectedCodes,
    SubsetCodes,
    UniformCodes,
)

# What a layer is in integers; raises PtqsrError, with the reason, where it is nothing.
AsIntegers = Callable[[FakeQuantConv2d], IntegerConv]


class Analysis:
    """Of a traced network.

    `convs`: the integer convolutions, by the nodes that call them. `fusions`: what they grew to, by
    the nodes whose values they make; `inner`: the nodes on the way there. `why`: for the other
    convolutions, why no integers. `coded`: results that only convolutions read, all with this one
    uniform quantizer. `emitting`: tensors whose statistics the convolution that makes them gives;
    `measuring`: those whose moments.
    `takers`: how many convolutions take the same codes of a tensor. `between`: results that only
    integer convolutions read, each by itself, so that no other code sees how they are stored.
    """

    def __init__(self, traced: Traced, as_integers: AsIntegers) -> None:
        self.traced = traced
        self.channels = Channels(traced)
        self.why: dict[fx.Node, str] = {}
        self.convs: dict[fx.Node, IntegerConv] = {}
        self.fusions: dict[fx.Node, Fusion] = {}
        self.inner: set[fx.Node] = set()
        for node in traced.graph.nodes:
            self._fuse(node, as_integers)
        self.coded = self._requantized()
        self.emitting = self._emitting()
        self.measuring = self._measuring()
        self.takers = Counter(
            (part, codes.key()) for node in self.convs for part, codes in self.parts(node)
        )
        self.between = self._between()

    def _fuse(self, node: fx.Node, as_integers: AsIntegers) -> None:
        """Begin at a convolution, if the node is one."""
        layer = self.traced.module(node)
        if isinstance(layer, LAYERS):
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

    def parts(self, node: fx.Node) -> Iterable[tuple[fx.Node, Codes]]:
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
            if isinstance(self.convs[fusion.node].codes, SubsetCodes) or not readers:
                continue
            if any(reader not in self.convs for reader in readers):
                continue
            quantizers = [self.convs[reader].codes for reader in readers]
            first = quantizers[0]
            if not isinstance(first, UniformCodes) or not first.plain:
                continue
            if len({q.key() for q in quantizers}) == 1:
                found[last] = first
        return found

    def _readers(self, node: fx.Node) -> list[fx.Node]:
        """Return what reads a result: convolutions, and additions that others have absorbed.

        None where something else needs it too.
        """
        found: list[fx.Node] = []
        for user in node.users:
            if user in self.fusions or user in self.inner:
                found.append(user)
            elif self.channels.is_cat(user) and (others := self._readers(user)):
                found += others
            else:
                return []
        return found

    def encoded_apart(self, part: fx.Node, codes: Codes) -> bool:
        """Return whether a tensor is encoded in a pass of its own.

        For several convolutions at once, or where they do not know how.
        """
        if isinstance(codes, SelectedCodes):
            return False
        plain = isinstance(codes, SubsetCodes) or codes.plain
        return self.takers[part, codes.key()] > 1 or not plain

    def _between(self) -> set[fx.Node]:
        """Return the results that nothing but operands of fused convolutions are made of.

        What is encoded once for several of them, or measured, has a pass of its own, over float32.
        """
        apart = {
            part
            for node in self.convs
            for part, codes in self.parts(node)
            if self.encoded_apart(part, codes)
            or (isinstance(codes, SubsetCodes) and part not in self.emitting)
            or (isinstance(codes, SelectedCodes) and codes.measure and part not in self.measuring)
        }
        return {last for last in self.fusions if last not in apart and self._readers(last)}

    def _measuring(self) -> set[fx.Node]:
        """Return the tensors whose moments a uniform convolution that makes them can give."""
        return {
            piece.node
            for node, conv in self.convs.items()
            if isinstance(conv.codes, SelectedCodes) and conv.codes.measure in ("channels", "std")
            for piece in self.channels.pieces(node.all_input_nodes[0])
            if piece.node in self.fusions
            and not isinstance(self.convs[self.fusions[piece.node].node].codes, SubsetCodes)
        }

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
