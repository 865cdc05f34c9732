"""The tables of PAMS, CADyQ and ODM as printed, row by row beside ours.

Other weights, pictures and steps: PSNR does not compare, how far it is from a table's reference
(the float network, or the whole method) does. trained_printed.csv has PSNR/SSIM as printed; but of
PAMS' Table 4, which prints gaps, gains of PAMS and losses of PACT alike without a sign, the
differences from float. In its Table 5 Set14's figures stand under BSD100 too. A line names our row
(`run`), and that of the same network which it is compared with (`against`).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmarks.tables.quality import SETS
from benchmarks.tables.results import Row, markdown_table
from benchmarks.tables.runs import GOALS

PRINTED = Path(__file__).with_name("trained_printed.csv")
# Of CADyQ, none of which are used here.
LARGE = ("Urban100", "Test2K", "Test4K")
WHOLE = ", whole"
Line = dict[str, str]


@cache
def printed() -> list[Line]:
    with PRINTED.open(newline="") as file:
        return list(csv.DictReader(file))


def tables() -> list[str]:
    """Return the names of all tables, as "PAMS 1"."""
    return list(dict.fromkeys(line["table"] for line in printed()))


def rows_of(table: str) -> list[str]:
    """Return the names of our rows that a table has."""
    runs = (line["run"] for line in printed() if line["table"] == table)
    return list(dict.fromkeys(run for run in runs if run))


def page(rows: list[Row]) -> str:
    """Return every table of which there is a row, under its name."""
    ours = {row["row"]: row for row in rows}
    found = [name for name in tables() if any(run in ours for run in rows_of(name))]
    return "\n\n".join(
        f"**{name.replace(' ', ', Table ')}**\n\n{one(name, ours)}" for name in found
    )


def one(table: str, ours: dict[str, Row]) -> str:
    """Return a table: the lines of networks of which there is a row."""
    lines = [line for line in printed() if line["table"] == table]
    present = {line["network"] for line in lines if line["run"] in ours}
    lines = [line for line in lines if line["network"] in present]
    sets = LARGE if table.startswith("CADyQ") else SETS
    sets = tuple(name for name in sets if any(line[name] for line in lines))
    extra = [name for name in ("FQR", "storage", "BitOPs") if any(line[name] for line in lines)]
    heads = ["network", "row", f"paper: {' / '.join(sets)}", "difference"]
    heads += [f"ours: {' / '.join(SETS)}", "difference"]
    heads += [head for name in extra for head in (f"{name}, paper", "ours")]
    body = []
    for line in lines:
        other = next((o for o in lines if _is(o, line["network"], line["against"])), None)
        paper = [_printed(one, sets) for one in (line, other) if one]
        mine = [_measured(one, ours) for one in (line, other) if one]
        cells = [line["network"], line["row"], *_pair(paper), *_pair(mine)]
        for name in extra:
            cells += [line[name].replace("/", " / "), _extra(name, line, ours)]
        body.append(cells)
    return markdown_table(heads, body)


def _is(line: Line, network: str, row: str) -> bool:
    return (line["network"], line["row"]) == (network, row)


def _printed(line: Line, sets: Sequence[str]) -> list[float | None]:
    return [float(line[name].split("/")[0]) if line[name] else None for name in sets]


def _measured(line: Line, ours: dict[str, Row]) -> list[float | None]:
    cells = [_cell(line, ours, name) for name in SETS]
    return [cell["psnr"] if cell else None for cell in cells]


def _cell(line: Line, ours: dict[str, Row], name: str) -> Row | None:
    """Return what was measured on a set, CADyQ's tables by patches."""
    patches = line["table"].startswith("CADyQ") and not line["network"].endswith(WHOLE)
    return ours.get(line["run"], {}).get(f"{name} by patches" if patches else name)


def _pair(values: list[list[float | None]]) -> list[str]:
    """Return the cells of PSNR, and of its difference from that of the reference, if any."""
    first, *others = values
    cells = [_joined(first, "{:.3f}"), ""]
    for other in others:
        pairs = zip(first, other, strict=True)
        differences = [None if None in pair else pair[0] - pair[1] for pair in pairs]  # type: ignore[operator]
        cells[1] = _joined(differences, "{:+.3f}")
    return cells


def _joined(values: Sequence[float | None], form: str) -> str:
    return " / ".join(form.format(value) for value in values if value is not None)


def _extra(name: str, line: Line, ours: dict[str, Row]) -> str:
    row = ours.get(line["run"], {})
    if name == "FQR":
        cells = [_cell(line, ours, part) for part in SETS]
        return _joined([cell["fqr"] for cell in cells if cell], "{:.2f}")
    if name == "storage":
        return f"{row['storage'] / 1e3:.1f}K" if row else ""
    if not line["table"].startswith("CADyQ"):
        return f"{row['bitops'] / 1e12:.1f}T" if row else ""
    cell = _cell(line, ours, SETS[0])
    return f"{cell['body_bitops'] / 1e9:.2f}G" if cell else ""


def curves(rows: list[Row]) -> str:
    """Return PSNR on held-out training pictures by step, of what the methods are held to."""
    found = {row["row"]: row["curve"] for row in rows if row["row"] in GOALS and "curve" in row}
    steps = sorted({int(step) for curve in found.values() for step in curve})
    lines = [
        [name, *(f"{curve[str(s)]:.3f}" if str(s) in curve else "" for s in steps)]
        for name, curve in found.items()
    ]
    return markdown_table(["row", *(f"{s}" for s in steps)], lines)
