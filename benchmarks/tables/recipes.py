"""The methods that DFSQ's Tables 2 and 3 compare, and ours: a line each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from benchmarks.tables.networks import CROPS
from ptqsr import Config
from ptqsr.cli.crops import LEARN
from ptqsr.methods import METHODS

BITS = (8, 6, 4, 3)
# Methods that learn take minutes a row: what they are compared on.
LEARNED = ("EDSR x4 (bundled)", "IMDN x4 (authors')"), (4, 3)


@dataclass(frozen=True)
class Recipe:
    """A method's options; `networks`: those it is measured on (none: all); `crops`: how many
    calibrate them.
    """

    options: Mapping[str, Any]
    networks: tuple[str, ...] = ()
    bits: tuple[int, ...] = BITS
    crops: int = CROPS

    @property
    def said(self) -> dict[str, Any]:
        """What a row says of how it was asked for."""
        return {"options": json.dumps({**self.options, "crops": self.crops})}

    def config(self, bits: int) -> Config:
        return Config(**self.options, bits=bits)

    def covers(self, network: str, bits: int) -> bool:
        return bits in self.bits and (not self.networks or network in self.networks)

    def missing(self) -> str | None:
        """Return what this ptqsr lacks for it, or None."""
        if self.options["method"] not in METHODS:
            return f"there is no method {self.options['method']}"
        unknown = self.options.keys() - {field.name for field in fields(Config)}
        return f"Config has no {', '.join(sorted(unknown))}" if unknown else None


RECIPES = {
    # "nearest": what BRECQ and QDrop start from; "dfsq+, 64 crops": what reconstruction does.
    "MinMax": Recipe({"method": "minmax"}),
    "percentile": Recipe({"method": "percentile"}),
    "nearest": Recipe({"method": "brecq", "iterations": 0}, *LEARNED, LEARN),
    "BRECQ": Recipe({"method": "brecq"}, *LEARNED, LEARN),
    "QDrop": Recipe({"method": "qdrop"}, *LEARNED, LEARN),
    "DFSQ, k-means": Recipe({"method": "dfsq", "selector": "kmeans"}),
    "DFSQ, optimal": Recipe({"method": "dfsq", "selector": "optimal"}),
    # The set of the authors' code, since that of the paper has fewer values than 8 bits.
    "DFSQ, 377 values": Recipe(
        {"method": "dfsq", "selector": "optimal", "universal_set": "dfsq-code"}, bits=(8,)
    ),
    "dfsq+": Recipe({"method": "dfsq+"}),
    f"dfsq+, {LEARN} crops": Recipe({"method": "dfsq+"}, *LEARNED, LEARN),
    "dfsq+, reconstructed": Recipe({"method": "dfsq+", "reconstruct": True}, *LEARNED, LEARN),
}


def available(only: Sequence[str] = ()) -> Iterator[tuple[str, Recipe]]:
    """Yield the recipes of these names (none: all); say which are left out, and why."""
    for name, recipe in RECIPES.items():
        if not only or name in only:
            if (reason := recipe.missing()) is None:
                yield name, recipe
            else:
                print(f"left out: {name}: {reason}", flush=True)
