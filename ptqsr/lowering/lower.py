"""From a traced network to its Plan."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx

from ptqsr.errors import PtqsrError
from ptqsr.lowering.analysis import Analysis, AsIntegers
from ptqsr.lowering.plan import (
    PICTURES,
    Choose,
    Convolve,
    Encode,
    Float,
    Measure,
    Moments,
    Normalise,
    Piece,
    Plan,
    Record,
    Source,
    Statistics,
)
from ptqsr.lowering.rules import Fusion
from ptqsr.lowering.trace import Traced
from ptqsr.modules import Codes, SelectedCodes, SubsetCodes


def lower(
    traced: Traced,
    as_integers: AsIntegers,
    between: torch.dtype | None = None,
    floats: torch.dtype = torch.float32,
) -> Plan:
    """Return the Plan of a traced network.

    between: what numbers are stored as that only integer convolutions read; None: float16 if
    subset convolutions make them, whose weights are rounded anyway, and float32 if static ones do,
    which compute what is simulated. floats: what all else is stored as and computed in. Raises
    PtqsrError where the network gives something else than one tensor.
    """
    return _Lowering(Analysis(traced, as_integers), between, floats).plan()


class _Lowering:
    """Writes the records, each after what it needs."""

    def __init__(self, found: Analysis, between: torch.dtype | None, floats: torch.dtype) -> None:
        self.found, self.between, self.floats = found, between, floats
        self.records: list[Record] = []
        self.made: dict[object, str] = {}  # what was emitted on the way, and its name

    def plan(self) -> Plan:
        inputs, output = [], None
        for node in self.found.traced.graph.nodes:
            if node.op == "placeholder":
                inputs.append(node.name)
            elif node.op == "output":
                output = node.args[0]
            elif node in self.found.fusions:
                self._convolve(self.found.fusions[node])
            elif node not in self.found.inner:
                self._float(node)
        if not isinstance(output, fx.Node):
            raise PtqsrError("the network gives something else than one tensor")
        records = tuple(_alive(self.records, output.name))
        return Plan(tuple(inputs), records, output.name, self.floats)

    def _float(self, node: fx.Node) -> None:
        traced = self.found.traced
        tensor = traced.tensor(node)
        if node.op == "get_attr" and tensor is None:
            raise PtqsrError(f"{node.target} is no tensor")
        why = self.found.why.get(node)
        self.records.append(Float(node.name, node, traced.module(node), tensor, why))

    def _convolve(self, fusion: Fusion) -> None:
        conv, last = self.found.convs[fusion.node], fusion.last
        sources = tuple(self._source(part, codes) for part, codes in self.found.parts(fusion.node))
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
                chosen=self._chosen(fusion),
                activation=fusion.activation,
                slope=fusion.slope,
                residual=None if fusion.residual is None else fusion.residual.name,
                last_activation=fusion.last_activation,
                shuffle=fusion.shuffle,
                statistics=last in self.found.emitting,
                moments=last in self.found.measuring,
                dtype=self._stored(last),
                out=self.found.coded.get(last),
                absorbed=tuple(fusion.absorbed),
            )
        )

    def _stored(self, last: fx.Node) -> torch.dtype:
        if last in self.found.coded:
            return torch.uint8
        if last not in self.found.between:
            return self.floats
        if self.between is not None:
            return self.between
        if self.floats == torch.float16:
            return torch.float16
        codes = self.found.convs[self.found.fusions[last].node].codes
        return torch.float16 if isinstance(codes, SubsetCodes) else torch.float32

    def _source(self, part: fx.Node, codes: Codes) -> Source:
        """Return how a convolution reads a tensor, after what it needs has been emitted."""
        if part in self.found.coded:
            return Source(part.name, None, True)
        normalised = None
        if isinstance(codes, SubsetCodes):
            normalised = self._normalised(part, codes)
        key = (part, codes.key())
        if not self.found.encoded_apart(part, codes):
            return Source(part.name, normalised, False)
        if key not in self.made:
            self.made[key] = name = f"{part.name}_codes{len(self.made)}"
            self.records.append(Encode(name, part.name, codes, normalised))
        return Source(self.made[key], normalised, True)

    def _normalised(self, part: fx.Node, codes: SubsetCodes) -> str:
        key = ("normalised", part, codes.nonnegative.cpu().numpy().tobytes())
        if key not in self.made:
            pieces = self._pieces(part, Statistics, self.found.emitting)
            self.made[key] = name = f"{part.name}_normalised{len(self.made)}"
            self.records.append(Normalise(name, pieces, codes.nonnegative))
        return self.made[key]

    def _chosen(self, fusion: Fusion) -> str | None:
        """Return the name of what a convolution's samples choose, if they do."""
        codes = self.found.convs[fusion.node].codes
        if not isinstance(codes, SelectedCodes):
            return None
        if PICTURES not in self.made:
            pictures = next(n for n in self.found.traced.graph.nodes if n.op == "placeholder")
            self.made[PICTURES] = PICTURES
            self.records.append(Measure(pictures.name))
        extremes = codes.measure == "range"
        pieces: tuple[Piece, ...] = ()
        if codes.measure is not None:
            kind, given = (Statistics, set()) if extremes else (Moments, self.found.measuring)
            pieces = self._pieces(fusion.node.all_input_nodes[0], kind, given)
        name, layer = f"{fusion.last.name}_chosen", str(fusion.node.target)
        self.records.append(Choose(name, layer, codes.quantizer, pieces, extremes))
        return name

    def _pieces(
        self, part: fx.Node, kind: type[Statistics | Moments], given: set[fx.Node]
    ) -> tuple[Piece, ...]:
        """Return what a tensor is made of, after a pass for what nobody gives of it."""
        pieces = self.found.channels.pieces(part)
        for piece in pieces:
            key = (kind, piece.node)
            if piece.node not in given and key not in self.made:
                self.made[key] = piece.node.name
                self.records.append(kind(piece.node.name))
        return tuple(Piece(p.node.name, p.start, p.stop, p.whole) for p in pieces)


def _alive(records: list[Record], output: str) -> list[Record]:
    """Return the records whose results the output needs."""
    needed, kept = {output}, []
    for record in reversed(records):
        if record.makes & needed:
            needed |= record.needs
            kept.append(record)
    return kept[::-1]
