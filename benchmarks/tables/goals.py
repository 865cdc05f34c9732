"""What PAMS, ODM and CADyQ must reach from the bundled EDSR x4, with a verdict for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.deployed import bound_of
from benchmarks.tables.check import Verdict
from benchmarks.tables.results import Row
from benchmarks.tables.runs import GOALS
from benchmarks.tables.tuning_cells import BY_PATCHES, DEPLOYED, IN_INTEGERS

STEPS = 3000
SET, PATCHES = "Set5", "Set5" + BY_PATCHES
# Better, at least so many dB above the other (below 0: at most so far below it).
ABOVE = (
    ("PAMS 8", "float", -0.05),
    ("PAMS 4", "MinMax 4", 0.0),
    ("ODM 2", "PAMS 2", 0.1),
    ("ODM 4", "ODM 3", 0.0),
    ("ODM 3", "ODM 2", 0.0),
)
FQR, LOSS = 6.5, 0.1

Rows = Mapping[str, Row]


def verdicts(rows: list[Row]) -> Iterator[Verdict]:
    found = {row["row"]: row for row in rows}
    for better, other, margin in ABOVE:
        yield above(found, SET, better, other, margin)
    yield above(found, PATCHES, "CADyQ", "PAMS 8", -LOSS)
    yield few_bits(found)
    for name, part in IN_INTEGERS.items():
        yield deploys(found, name, part)
    yield few_steps(found)


def above(rows: Rows, part: str, better: str, other: str, margin: float) -> Verdict:
    text = f"{part}: {better} at least {other} {margin:+.2f} dB"
    cells = [rows.get(name, {}).get(part) for name in (better, other)]
    if any(cell is None for cell in cells):
        return Verdict(None, text)
    first, second = (cell["psnr"] for cell in cells if cell)
    gain = round(first - second, 4)
    return Verdict(gain >= margin, f"{text}: {first:.3f} and {second:.3f}, {gain:+.3f}")


def few_bits(rows: Rows) -> Verdict:
    text = f"{PATCHES}: CADyQ's FQR below {FQR}"
    cell = rows.get("CADyQ", {}).get(PATCHES)
    if cell is None:
        return Verdict(None, text)
    return Verdict(cell["fqr"] < FQR, f"{text}: {cell['fqr']:.2f}")


def deploys(rows: Rows, name: str, part: str) -> Verdict:
    most = bound_of(GOALS[name].bits)
    text = f"{part}: {name} deployed within {most} dB"
    cells = [rows.get(name, {}).get(each) for each in (part, part + DEPLOYED)]
    if any(cell is None for cell in cells):
        return Verdict(None, text)
    simulated, deployed = (cell["psnr"] for cell in cells if cell)
    apart = round(deployed - simulated, 4)
    return Verdict(abs(apart) <= most, f"{text}: {apart:+.4f}")


def few_steps(rows: Rows) -> Verdict:
    """All of them by the same number of steps."""
    text = f"every row by the same number of steps, at most {STEPS}"
    trained = [name for name, run in GOALS.items() if run.trained]
    steps = {rows[name]["steps"] for name in trained if name in rows}
    if any(name not in rows for name in trained):
        return Verdict(None, text)
    return Verdict(len(steps) == 1 and max(steps) <= STEPS, f"{text}: {sorted(steps)}")
