"""DFSQ's Tables 2 and 3 as printed, beside ours: what quantization costs each, in dB.

The networks are the papers' architectures by other weights, so that PSNR does not compare; how far
it drops from a network's own float does. dfsq_printed.csv has the paper's PSNR, of Urban100 too,
which is not measured here.
"""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.tables.recipes import BITS
from benchmarks.tables.results import SETS, Row, markdown_table

PRINTED = Path(__file__).with_name("dfsq_printed.csv")
# Of ours, the paper's name of it.
METHODS = {
    "MinMax": "MinMax",
    "BRECQ": "BRECQ",
    "QDrop": "QDrop",
    "DFSQ, k-means": "DFSQ",
    "DFSQ, optimal": "",
    "dfsq+": "",
}
Psnr = dict[tuple[str, int, str, str], float]


def printed() -> Psnr:
    with PRINTED.open(newline="") as file:
        return {
            (row["network"], int(row["bits"]), row["method"], name): float(row[name])
            for row in csv.DictReader(file)
            for name in SETS
        }


def measured(rows: list[Row]) -> Psnr:
    return {
        (row["network"].removesuffix(" (bundled)"), row["bits"], row["method"], name): row[name][
            "psnr"
        ]
        for row in rows
        for name in SETS
        if name in row
    }


def dfsq(rows: list[Row]) -> str:
    """Return a line for every network of ours that the paper has, bits and method: drops in dB."""
    paper, ours = printed(), measured(rows)
    present = dict.fromkeys(network for network, *_ in ours)
    lines = []
    for network in dict.fromkeys(network for network, *_ in paper):
        for bits in BITS if network in present else ():
            for method, name in METHODS.items():
                cells = [_drops(paper, network, bits, name), _drops(ours, network, bits, method)]
                if any(cells):
                    lines.append([network, str(bits), method, *cells])
    sets = " / ".join(SETS)
    return markdown_table(("network", "bits", "method", f"paper: {sets}", f"ours: {sets}"), lines)


def _drops(psnr: Psnr, network: str, bits: int, method: str) -> str:
    """Return the differences from float, empty where one of them is missing."""
    keys = [((network, bits, method, name), (network, 32, "float", name)) for name in SETS]
    if any(key not in psnr for pair in keys for key in pair):
        return ""
    return " / ".join(f"{psnr[quantized] - psnr[full]:.3f}" for quantized, full in keys)
