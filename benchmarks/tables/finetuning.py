"""PAMS, CADyQ and ODM: their tables, every row a training run of the same steps.

    python -m benchmarks.tables.finetuning --data ../shared/data --weights ../shared/weights
    python -m benchmarks.tables.finetuning --check

First what the methods are held to, then ablations, then other networks; `--rows` takes some alone,
`--tables` those of a paper's table ("PAMS 2"), or "rates": short runs that probe learning rates and
CADyQ's w_reg. A row that needs another's network (CADyQ's teacher) has it trained first. Resumable:
every run has a folder in `--work` and is saved every `--validate-every` steps, rows that the result
file holds are not made again. Rows are of one scale: those of another stop the command, `--fresh`
begins these again, and all of other code. `--quick`: Set5 and Set14 only.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables import check, goals, networks, trained_papers
from benchmarks.tables.quality import WORK
from benchmarks.tables.results import (
    FOLDER,
    SETS,
    Key,
    Results,
    Row,
    markdown_table,
    read,
    same_origin,
)
from benchmarks.tables.runs import PROBES, RUNS, network_of, with_needs
from benchmarks.tables.tuning import Scale, Workshop, origin_of_runs
from benchmarks.tables.tuning_cells import BY_PATCHES, measure, parts_of
from ptqsr import PtqsrError

KEYS = ("row",)


def order(key: Key) -> int:
    return list(RUNS).index(key[0])


def markdown(rows: list[Row]) -> str:
    heads = ("row", "steps", "s a step", *SETS, "BitOPs", "storage", "FQR", "in conflict")
    return markdown_table(heads, map(line, rows))


def line(row: Row) -> list[str]:
    """Return a row's cells; FQR is that of patches of Set5."""
    cells = [row.get(name) for name in SETS]
    quality = [f"{cell['psnr']:.3f} / {cell['ssim']:.4f}" if cell else "" for cell in cells]
    chosen = row.get("Set5" + BY_PATCHES) if row["method"] == "cadyq" else None
    return [
        row["row"],
        f"{row.get('steps', '')}",
        f"{row.get('seconds_per_step', '')}",
        *quality,
        f"{row['bitops'] / 1e12:.1f}T" if "bitops" in row else "",
        f"{row['storage'] / 1e3:.1f}K" if "storage" in row else "",
        f"{chosen['fqr']:.2f}" if chosen else "",
        f"{row['conflict']:.3f}" if "conflict" in row else "",
    ]


def results(path: Path) -> Results:
    return Results(path, KEYS, markdown, order)


class Options(argparse.Namespace):
    data: Path
    weights: Path
    work: Path


def fill(table: Results, names: Sequence[str], sets: Sequence[str], shop: Workshop) -> None:
    """Train and measure what the table lacks, row by row."""
    for name in names:
        held = table.get(name)
        if held and all(part in held for part in parts_of(name, sets)):
            continue
        if held and not same_origin(held, origin_of_runs()):
            raise SystemExit(f"{name}: its row is of other code; --fresh makes that again")
        if reason := network_of(RUNS[name]).missing(shop.weights):
            print(f"left out: {name}: {reason}", flush=True)
            continue
        row = held or {"row": name, **shop.record(name), **origin_of_runs()}
        measure(table, row, shop.network(name), parts_of(name, sets), shop.data)


def wanted(rows: Sequence[str], tables: Sequence[str]) -> list[str]:
    """Return the rows that are asked for, and those that they need."""
    names = list(rows)
    for table in tables:
        names += PROBES if table == "rates" else trained_papers.rows_of(table)
    if not names:
        names = [name for name in RUNS if name not in PROBES]
    return list(with_needs(names))


def check_scale(table: Results, shop: Workshop, fresh: bool) -> None:
    """Forget rows of another scale or code if that is asked for, and stop where it is not."""

    def other(row: Row) -> bool:
        settings = shop.scale.settings(RUNS[row["row"]])
        return any(row.get(name) != value for name, value in settings.items())

    if fresh:
        table.drop(lambda row: other(row) or not same_origin(row, origin_of_runs()))
    strange = [row["row"] for row in table.rows if other(row)]
    if strange:
        raise SystemExit(
            f"{table.path}: {', '.join(strange)}: of other steps, batches, rates or seed; give "
            "these, or another file with --json, or begin again with --fresh"
        )


def arguments() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    networks.add_arguments(parser)
    parser.add_argument("--rows", nargs="*", default=(), choices=list(RUNS), metavar="NAME")
    known = [*trained_papers.tables(), "rates"]
    parser.add_argument("--tables", nargs="*", default=(), choices=known, metavar="TABLE")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=24, help="in input pixels")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--range-learning-rate", type=float, default=1e-3)
    parser.add_argument("--bit-weight", type=float, default=1e-3, help="CADyQ's w_reg at the start")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate-every", type=int, default=250, help="the run is saved then")
    parser.add_argument("--work", type=Path, default=WORK / "finetuning", help="where runs are")
    parser.add_argument("--quick", action="store_true", help="Set5 and Set14 only")
    parser.add_argument("--fresh", action="store_true", help="of other code or scale: again")
    parser.add_argument("--json", type=Path, default=FOLDER / "finetuning.json")
    parser.add_argument("--merge", type=Path, nargs="*", default=None, help="only add these files")
    parser.add_argument("--check", action="store_true", help="only give a verdict on the rows")
    return parser.parse_args(namespace=Options())


def main() -> None:
    options = arguments()
    table = results(options.json)
    if options.check:
        raise SystemExit(check.report(goals.verdicts(table.rows)))
    if options.merge is not None:
        table.put(*(row for path in options.merge for row in read(path)))
    else:
        common = Scale.__dataclass_fields__
        scale = Scale(**{name: getattr(options, name) for name in common})
        shop = Workshop(
            options.work,
            options.data,
            options.weights,
            scale,
            options.validate_every,
            lambda name: (table.get(name) or {}).get("code"),
        )
        check_scale(table, shop, options.fresh)
        sets = SETS[:2] if options.quick else SETS
        try:
            fill(table, wanted(options.rows, options.tables), sets, shop)
        except PtqsrError as error:
            raise SystemExit(f"finetuning: {error}") from None
        table.write()
    print(markdown(table.rows))


if __name__ == "__main__":
    main()
