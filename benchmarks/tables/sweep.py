"""A table of variants of a method: networks and bit-widths across, a line for each variant."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.tables import networks
from benchmarks.tables.results import (
    FOLDER,
    SETS,
    Key,
    Results,
    Row,
    cell,
    markdown_table,
    origin,
    read,
)
from ptqsr.models import SRNetwork

KEYS = ("network", "bits", "variant")

# From a float network, its calibration crops and a bit-width to the quantized network.
Make = Callable[[SRNetwork, Sequence[np.ndarray], int], SRNetwork]


class Options(argparse.Namespace):
    data: Path
    weights: Path
    bits: Sequence[int]
    fresh: bool
    merge: Sequence[Path] | None


@dataclass(frozen=True)
class Sweep:
    """`name`: of the result files; `variants`: by their names in the table; `some`: the variants
    of bit-widths that do not have them all.
    """

    name: str
    networks: Sequence[str]
    bits: Sequence[int]
    variants: Mapping[str, Make]
    some: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def order(self, key: Key) -> tuple[int, ...]:
        network, bits, variant = key
        return self.networks.index(network), -bits, list(self.variants).index(variant)

    def markdown(self, rows: list[Row]) -> str:
        """Return the PSNR of every set, a line a variant, a column for each network and bits."""
        found = {(row["network"], row["bits"], row["variant"]): row for row in rows}
        columns = list(dict.fromkeys((row["network"], row["bits"]) for row in rows))
        heads = [f"{network.split(' (')[0]}, {bits} bits" for network, bits in columns]

        def psnr(row: Row) -> str:
            return " / ".join(f"{row[name]['psnr']:.3f}" for name in SETS if name in row)

        lines = (
            [variant, *(psnr(found.get((*column, variant), {})) for column in columns)]
            for variant in self.variants
        )
        return markdown_table(["variant", *heads], lines)

    def results(self, path: Path) -> Results:
        return Results(path, KEYS, self.markdown, self.order)

    def fill(
        self, table: Results, network: networks.Network, sets: Sequence[str], options: Options
    ) -> None:
        """Compute a network's rows that lack a set."""
        model, crops = network.build(options.weights), network.crops(options.data)
        pictures = {name: networks.pairs(options.data, name, network.scale) for name in sets}
        for bits in options.bits:
            for key in self.lacking(table, network.name, bits, sets, fresh=options.fresh):
                start = time.perf_counter()
                quantized = self.variants[key[-1]](model, crops, bits)
                row = {**dict(zip(KEYS, key, strict=True)), **origin()}
                table.put(row | {part: cell(quantized, pictures[part]) for part in sets})
                seconds = time.perf_counter() - start
                print(f"{table.get(*key)} {seconds:.1f} s", flush=True)

    def lacking(
        self, table: Results, network: str, bits: int, sets: Sequence[str], *, fresh: bool
    ) -> list[Key]:
        """Return the rows of a column that lack a set, all of them where those that are there are
        of another origin: rows of a column compare.
        """
        some = self.some.get(bits, self.variants)
        keys = [(network, bits, variant) for variant in self.variants if variant in some]

        def lacks(key: Key) -> bool:
            return not all(name in (table.get(*key) or ()) for name in sets)

        if fresh or any(map(lacks, keys)):
            table.begin_again(keys, (), fresh=True)
        return [key for key in keys if lacks(key)]

    def main(self, description: str | None = None) -> None:
        parser = argparse.ArgumentParser(description=description)
        networks.add_arguments(parser)
        parser.add_argument("--quick", action="store_true", help="Set5 and Set14 only")
        parser.add_argument(
            "--only", nargs="*", default=self.networks, help="networks whose names begin so"
        )
        parser.add_argument("--bits", type=int, nargs="+", default=self.bits, choices=self.bits)
        parser.add_argument("--fresh", action="store_true", help="begin rows of other code again")
        parser.add_argument("--json", type=Path, default=FOLDER / f"{self.name}.json")
        parser.add_argument("--merge", type=Path, nargs="*", help="only add these files' rows")
        options = parser.parse_args(namespace=Options())
        table = self.results(options.json)
        if options.merge is not None:
            table.put(*(row for path in options.merge for row in read(path)))
        else:
            for network in networks.available(options.weights, only=options.only):
                if network.name in self.networks:
                    self.fill(table, network, SETS[:2] if options.quick else SETS, options)
            table.write()
        print(self.markdown(table.rows))
