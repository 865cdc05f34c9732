"""PSNR and SSIM of quantized networks on the standard pictures: DFSQ's Tables 2 and 3 in kind.

    python -m benchmarks.tables.quality --data ../shared/data --weights ../shared/weights
    python -m benchmarks.tables.quality --check

`--quick`: Set5 and Set14 only. Resumable: what the result file holds is not computed again, and
calibrated networks are kept in the folder `--work` (they are made anew when code, weights or
pictures change). Set5 of everything comes first, then Set14, then BSD100. A row is of one network
by one code on one processor: rows that lack a set and are of others are begun again, with `--fresh`
all that are. Several processes may run side by side, each with `--only`, `--methods` or
`--bits` and a `--json` of its own; `--merge` adds their rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ptqsr
from benchmarks.tables import check, networks, recipes
from benchmarks.tables.networks import Network
from benchmarks.tables.recipes import Recipe
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
    same_origin,
)
from ptqsr.methods import learns
from ptqsr.models import SRNetwork, digest_of

KEYS = ("network", "method", "bits")
FLOAT = ("float", 32)
WORK = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ptqsr" / "tables"


def order(key: Key) -> tuple[int, ...]:
    names = [network.name for network in networks.NETWORKS]
    methods = [FLOAT[0], *recipes.RECIPES]
    return names.index(key[0]), -key[2], methods.index(key[1])


def markdown(rows: list[Row]) -> str:
    heads = ("network", "bits (W and A)", "method", *SETS)
    return markdown_table(heads, (line(row) for row in rows))


def line(row: Row) -> list[str]:
    """Return a row's cells; a set that was not measured is an empty one."""
    cells = [row.get(name) for name in SETS]
    quality = [f"{cell['psnr']:.3f} / {cell['ssim']:.4f}" if cell else "" for cell in cells]
    return [row["network"], str(row["bits"]), row["method"], *quality]


def results(path: Path) -> Results:
    return Results(path, KEYS, markdown, order)


def in_float(network: Network, options: Options) -> tuple[SRNetwork, Row]:
    return network.build(options.weights), {}


def calibrated(
    network: Network, recipe: Recipe, bits: int, options: Options
) -> tuple[SRNetwork, Row]:
    """Return the calibrated network and how it was made, from the work folder where it is there."""
    config = recipe.config(bits)
    model, crops = network.build(options.weights), network.crops(options.data, recipe.crops)
    held_out = network.held_out(options.data) if learns(config) else []
    made_from = hashlib.sha256(repr((origin(), config, digest_of(model.state_dict()))).encode())
    for picture in (*crops, *held_out):
        made_from.update(picture.tobytes())
    path = options.work / f"{made_from.hexdigest()[:16]}.safetensors"
    made = path.with_suffix(".json")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        quantized = ptqsr.calibrate(model, crops, config, held_out=held_out or None)
        how = {"crops": len(crops), **making(quantized, time.perf_counter() - start)}
        made.write_text(json.dumps(how))
        ptqsr.save(quantized, path)  # last: where it is, all is
    return ptqsr.load(path), json.loads(made.read_text())


def making(network: SRNetwork, seconds: float) -> Row:
    """Return how long calibration took; of blocks that learned their iterations, and the worst.

    That is the one whose error on held-out pictures is largest in units of rounding to nearest's.
    """
    how: Row = {"seconds": round(seconds, 1)}
    if blocks := network.reconstruction:
        worst = max(block["end"]["held_out"] / block["nearest"]["held_out"] for block in blocks)
        ran = min(block["iterations"] for block in blocks)
        how |= {"iterations": ran, "worst block": round(worst, 4)}
    return how


class Options(argparse.Namespace):
    data: Path
    weights: Path
    work: Path
    fresh: bool


class Job(NamedTuple):
    """A row: its key, what it says of how the network is made, and what makes that of which."""

    key: Key
    said: Row
    make: Callable[[], tuple[SRNetwork, Row]]
    network: Network


def jobs(options: Options) -> list[Job]:
    """Return the rows that can be made here."""
    found: list[Job] = []
    methods = list(recipes.available(options.methods))
    for network in networks.available(options.weights, only=options.only):
        key: Key = (network.name, *FLOAT)
        found.append(Job(key, {}, partial(in_float, network, options), network))
        for bits in options.bits:
            for method, recipe in methods:
                if recipe.covers(network.name, bits):
                    key = (network.name, method, bits)
                    make = partial(calibrated, network, recipe, bits, options)
                    found.append(Job(key, recipe.said, make, network))
    return found


def fill(table: Results, work: Sequence[Job], sets: Sequence[str], options: Options) -> None:
    """Measure what the table lacks, set by set."""
    said = {job.key: job.said for job in work}

    def differs(row: Row) -> bool:
        """Whether a row was asked for by other options than now."""
        asked = said.get(table.key(row), {})
        return any(row.get(name, value) != value for name, value in asked.items())

    table.drop(differs)
    table.begin_again(said, sets, fresh=options.fresh)
    for name in sets:
        pictures: dict[int, list] = {}
        for job in work:
            new = {**dict(zip(KEYS, job.key, strict=True)), **job.said, **origin()}
            row = table.get(*job.key) or new
            if name in row:
                continue
            start, scale = time.perf_counter(), job.network.scale
            if scale not in pictures:
                pictures[scale] = networks.pairs(options.data, name, scale)
            model, how = job.make()
            found = cell(model, pictures[scale])
            table.put({**row, **how, name: found})
            seconds = time.perf_counter() - start
            cells = (name, *job.key, found, f"{seconds:.1f} s")
            print(" | ".join(map(str, cells)), flush=True)


def merged(held: Row | None, row: Row) -> Row:
    """Return one row of two: of one origin both's sets, else the one that has more, or the new."""
    if held is None or same_origin(held, row):
        return {**(held or {}), **row}
    return row if sum(name in row for name in SETS) >= sum(name in held for name in SETS) else held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    networks.add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="Set5 and Set14 only")
    parser.add_argument("--only", nargs="*", default=(), help="networks whose names begin so")
    parser.add_argument(
        "--methods",
        nargs="*",
        default=(),
        choices=list(recipes.RECIPES),
        metavar="METHOD",
        help=f"these alone of: {'; '.join(recipes.RECIPES)}",
    )
    parser.add_argument(
        "--bits", type=int, nargs="+", default=recipes.BITS, choices=recipes.BITS, metavar="BITS"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="begin rows of other code or processors again"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="where calibrated networks are")
    parser.add_argument("--json", type=Path, default=FOLDER / "quality.json", help="result file")
    parser.add_argument("--merge", type=Path, nargs="*", default=None, help="only add these files")
    parser.add_argument(
        "--check",
        action="store_true",
        help="only give verdicts on the rows; exits with 1 where one is broken, 2 not measured",
    )
    options = parser.parse_args(namespace=Options())
    table = results(options.json)
    if options.check:
        raise SystemExit(check.report(check.verdicts(table.rows)))
    if options.merge is not None:
        for path in options.merge:
            table.put(*(merged(table.get(*table.key(row)), row) for row in read(path)))
    else:
        fill(table, jobs(options), SETS[:2] if options.quick else SETS, options)
        table.write()
    print(markdown(table.rows))


if __name__ == "__main__":
    main()
