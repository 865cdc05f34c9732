"""What is measured of a row's network: a cell for each set, whole, by patches and deployed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ptqsr
from benchmarks.tables import networks
from benchmarks.tables.results import Results, Row, cell
from benchmarks.tables.runs import RUNS
from ptqsr.evaluation import Cost, cost, recording_bits
from ptqsr.models import PatchWise, SRNetwork

# Of CADyQ's Table 5, whose BitOPs are those of the body in units of 32 x 32 bits.
OUTPUT = (720, 1280)
BY_PATCHES = " by patches"
DEPLOYED = " deployed"
# Where the design's contract 4 is held to: what is deployed beside what is simulated.
IN_INTEGERS = {
    **dict.fromkeys(("PAMS 8", "PAMS 4", "ODM 4"), "Set5"),
    "CADyQ": "Set5" + BY_PATCHES,
}


def parts_of(name: str, sets: Sequence[str]) -> list[str]:
    """Return the cells of a row: sets, by patches too where CADyQ is compared so, deployed."""
    teachers = {run.taught_by for run in RUNS.values()}
    compared = RUNS[name].method in ("float", "cadyq") or name in teachers
    parts = [*sets, *(part + BY_PATCHES for part in sets if compared)]
    return [*parts, IN_INTEGERS[name] + DEPLOYED] if name in IN_INTEGERS else parts


def measure(table: Results, row: Row, network: SRNetwork, parts: Sequence[str], data: Path) -> None:
    """Fill in the cells that a row lacks; it is kept after each."""
    for part in parts:
        if part in row:
            continue
        simulated = part.removesuffix(DEPLOYED)
        name = simulated.removesuffix(BY_PATCHES)
        running = network if part == simulated else ptqsr.deploy(network)
        if simulated != name:
            running = PatchWise(running)
        with recording_bits(running) as chosen:
            found = cell(running, networks.pairs(data, name, network.scale))
        if "bitops" not in row:
            # Of what CADyQ chose for the first set.
            row |= costs(cost(network, chosen=chosen))
        body = cost(network, height=OUTPUT[0], width=OUTPUT[1], chosen=chosen)
        row[part] = {
            **found,
            "fqr": round(body.fqr, 3),
            "body_bitops": body.listed_bitops * overlaps(running),
        }
        table.put(row)
        print(f"{part} | {row['row']} | {row[part]}", flush=True)


def costs(spent: Cost) -> Row:
    return {
        "bitops": spent.bitops,
        "storage": spent.storage,
        "storage_bytes": spent.storage_bytes,
    }


def overlaps(running: SRNetwork) -> float:
    """Return how many times as many pixels are computed as there are."""
    if not isinstance(running, PatchWise):
        return 1.0
    height, width = (-(-n // running.scale) for n in OUTPUT)
    return running.computed(height, width)
