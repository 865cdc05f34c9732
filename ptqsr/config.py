"""What to quantize, and how: one frozen, JSON-serialisable record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

from ptqsr.errors import PtqsrError

VERSION = 1
MIN_BITS, MAX_BITS = 2, 8
# Of the convolutions outside the papers' list: the picture itself goes through them.
EDGE_BITS, EDGE_SET = 8, "int8"
# DFSQ's own set has 107 values: enough to choose from up to 6 bits.
PAPER_SET, PAPER_BITS = "dfsq-107", 6


def check_bits(name: str, value: object) -> None:
    """Raise PtqsrError for a bit-width that there is not."""
    if type(value) is not int or not MIN_BITS <= value <= MAX_BITS:
        raise PtqsrError(
            f"{name} is {value!r}; it must be a whole number from {MIN_BITS} to {MAX_BITS}"
        )


@dataclass(frozen=True)
class Rule:
    """How a layer is quantized; those with equal rules share what they read.

    `universal_set` concerns DFSQ. `whole_range`: no legal picture may be clipped, so that static
    ranges keep their tails and take in the test cards (ptqsr.calibration.cards).
    """

    weight_bits: int
    act_bits: int
    universal_set: str
    whole_range: bool = False


@dataclass(frozen=True)
class Config:
    """A calibration's options; raises PtqsrError for a value out of range.

    A convolution is quantized if the network's own list names it and `exclude` does not, or if
    `include` does; both hold name patterns (fnmatch): the body. With `edges=8` all others but the
    excluded are quantized too, always to 8 bits. `universal_set` (None: the paper's, for layers of
    dfsq+ with more than 6 bits int8), `selector` (None: `selection`) and `seed` concern DFSQ,
    `percentile` (of either tail, in per cent) the method of that name. `reconstruct`: dfsq+ ends
    with block reconstruction; `iterations` are those of a block, there and of brecq and qdrop (0:
    weights stay rounded to nearest), which `seed` concerns too. `layers`: (name, bits of weights,
    of activations) of every layer to quantize, as a plan has them (ptqsr.plan), in place of the
    bits and patterns.

    >>> Config(bits=4, weight_bits=8).act_bits
    4
    >>> Config.from_json(Config(method="minmax").to_json()) == Config(method="minmax")
    True
    """

    method: str = "dfsq"
    bits: int = 4
    weight_bits: int = cast(int, None)  # not given: as `bits`
    act_bits: int = cast(int, None)
    universal_set: str | None = None  # a preset's name or a JSON file of words
    selector: str | None = None
    percentile: float = 1.0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    seed: int = 0
    edges: int | None = None
    reconstruct: bool = False
    iterations: int = 1000
    layers: tuple[tuple[str, int, int], ...] = ()

    def __post_init__(self) -> None:
        for name in ("weight_bits", "act_bits"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.bits)
        for name in ("bits", "weight_bits", "act_bits"):
            check_bits(name, getattr(self, name))
        if self.edges is not None and (type(self.edges), self.edges) != (int, EDGE_BITS):
            raise PtqsrError(f"edges is {self.edges!r}; it must be {EDGE_BITS}, or be left out")
        if self.method == "dfsq+" and self.selector not in (None, "optimal"):
            raise PtqsrError(
                f"selector is {self.selector!r}; dfsq+ chooses points exactly: leave it out"
            )
        if type(self.seed) is not int or not 0 <= self.seed < 1 << 32:
            raise PtqsrError(f"seed is {self.seed}; it must be a whole number from 0 to 2^32 - 1")
        number = isinstance(self.percentile, (int, float))
        if isinstance(self.percentile, bool) or not number or not 0 <= self.percentile < 50:
            raise PtqsrError(
                f"percentile is {self.percentile}; it must be from 0 to below 50, "
                "per cent of either tail"
            )
        if not isinstance(self.reconstruct, bool) or (self.reconstruct and self.method != "dfsq+"):
            raise PtqsrError(
                f"reconstruct is {self.reconstruct!r}; it is for method dfsq+, not {self.method}"
            )
        if type(self.iterations) is not int or self.iterations < 0:
            raise PtqsrError(
                f"iterations is {self.iterations!r}; it must be a whole number of at least 0"
            )
        if self.reconstruct and not self.iterations:
            raise PtqsrError(
                "iterations is 0: nothing would be reconstructed; give some, or no reconstruct"
            )
        for name in ("include", "exclude"):
            patterns = getattr(self, name)
            patterns = (patterns,) if isinstance(patterns, str) else patterns
            listed = isinstance(patterns, (list, tuple))
            if not listed or not all(isinstance(pattern, str) for pattern in patterns):
                raise PtqsrError(f"{name} is {patterns!r}; give patterns of layers' names")
            object.__setattr__(self, name, tuple(patterns))
        try:
            layers = tuple((str(name), weight, act) for name, weight, act in self.layers)
        except (TypeError, ValueError):
            raise PtqsrError("layers: give (name, bits of weights, of activations) each") from None
        object.__setattr__(self, "layers", layers)
        for name, weight_bits, act_bits in layers:
            check_bits(f"layer {name}: weight_bits", weight_bits)
            check_bits(f"layer {name}: act_bits", act_bits)
        if len({name for name, _, _ in layers}) < len(layers):
            raise PtqsrError("layers: one is named twice")
        if self.layers and (self.include or self.exclude or self.edges):
            raise PtqsrError("layers are all that is quantized: leave out include, exclude, edges")
        for name in ("method", "universal_set", "selector"):
            value = getattr(self, name)
            if not (isinstance(value, str) or (name != "method" and value is None)):
                raise PtqsrError(f"{name} is {value!r}; give its name")

    @property
    def selection(self) -> str:
        """The selector: where none is named the paper's, k-means, and of dfsq+ the exact one."""
        return self.selector or ("optimal" if self.method == "dfsq+" else "kmeans")

    @property
    def body(self) -> Rule:
        """The rule of the listed and included convolutions."""
        return self.rule(self.weight_bits, self.act_bits)

    def rule(self, weight_bits: int, act_bits: int) -> Rule:
        """Return the rule of layers of the body with these bits."""
        wide = self.method == "dfsq+" and act_bits > PAPER_BITS
        return Rule(weight_bits, act_bits, self.universal_set or (EDGE_SET if wide else PAPER_SET))

    @property
    def edge(self) -> Rule:
        """The rule of all others, where `edges` is given."""
        return Rule(EDGE_BITS, EDGE_BITS, EDGE_SET, whole_range=True)

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Return the configuration `to_json` wrote; an unknown version or field is refused."""
        try:
            record: dict[str, Any] = dict(json.loads(text))
        except (ValueError, TypeError):
            raise PtqsrError("configuration: is no JSON object") from None
        version = record.pop("version", None)
        if version != VERSION:
            raise PtqsrError(f"configuration: version {version} is unknown; this is {VERSION}")
        unknown = record.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise PtqsrError(f"configuration: unknown field {', '.join(sorted(unknown))}")
        if record.get("method") == "dfsq+":
            record["selector"] = None  # older files say kmeans, which was not used
        return cls(**record)
