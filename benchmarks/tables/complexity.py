"""What networks cost beside the papers' printed figures: ODM's Table 4, CADyQ's 5, PAMS' 3.

    python -m benchmarks.tables.complexity

BitOPs of an output of 1920x1080 (ODM) and 1280x720 (CADyQ), storage in float32 parameters, of our
networks by ptqsr.evaluation.cost; MinMax quantizes them: bits are all that counts here. Figures
that follow from what a method learns stay empty.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

import ptqsr
from benchmarks.tables.results import FOLDER, Results, Row, markdown_table, origin
from ptqsr import Config, models
from ptqsr.evaluation import Cost, cost

KEYS = ("paper", "network", "bits", "quantity")
UNITS = {"T": 1e12, "G": 1e9, "M": 1e6, "K": 1e3}


@dataclass(frozen=True)
class Printed:
    """A paper's figure, as printed; `needs`: what ours would have to know, if it does not."""

    paper: str
    network: str
    bits: str
    quantity: str
    printed: str
    architecture: str = ""
    needs: str = ""

    @property
    def value(self) -> float:
        return float(self.printed[:-1]) * UNITS[self.printed[-1]]


ODM, CADYQ, PAMS = "ODM, Table 4", "CADyQ, Table 5", "PAMS, Table 3"


def _odm(network: str, bits: str, storage: str, bitops: str, needs: str = "") -> list[Printed]:
    architecture = network.lower()
    return [
        Printed(ODM, network, bits, "storage", storage, architecture, needs),
        Printed(ODM, network, bits, "BitOPs", bitops, architecture, needs),
    ]


OFFSETS = "ODM's offsets"
PATCHES = "the patches' overlap, which the table does not give"
FIGURES = (
    *_odm("EDSR", "32", "1517.6K", "527.1T"),
    *_odm("EDSR", "2", "411.7K", "215.1T"),
    *_odm("EDSR", "2, ODM", "411.7K", "215.1T", OFFSETS),
    *_odm("RDN", "32", "22271.1K", "6032.9T"),
    *_odm("RDN", "2", "1715.9K", "236.6T"),
    *_odm("RDN", "2, ODM", "1727.9K", "236.6T", OFFSETS),
    *_odm("SRResNet", "32", "1546.8K", "588.8T"),
    *_odm("SRResNet", "2", "440.9K", "276.9T"),
    *_odm("SRResNet", "2, ODM", "441.4K", "276.9T", OFFSETS),
    Printed(CADYQ, "CARN", "32", "BitOPs, whole picture", "76.44G", "carn"),
    Printed(CADYQ, "CARN", "8", "BitOPs, whole picture", "4.78G", "carn"),
    Printed(CADYQ, "CARN", "CADyQ", "BitOPs, whole picture", "3.24G", "carn", "CADyQ's FQR"),
    Printed(CADYQ, "CARN", "32", "BitOPs, patches of 96x96", "77.87G", "carn", PATCHES),
    Printed(CADYQ, "CARN", "8", "BitOPs, patches of 96x96", "4.87G", "carn", PATCHES),
    Printed(CADYQ, "CARN", "CADyQ", "BitOPs, patches of 96x96", "3.23G", "carn", "CADyQ's FQR"),
    Printed(PAMS, "EDSR", "32", "storage", "1.518M", "edsr"),
    Printed(PAMS, "EDSR", "8", "storage", "0.631M", "edsr"),
    Printed(PAMS, "EDSR", "4", "storage", "0.484M", "edsr"),
    Printed(PAMS, "RDN", "32", "storage", "22.27M", "rdn"),
    Printed(PAMS, "RDN", "8", "storage", "5.82M", "rdn"),
    Printed(PAMS, "RDN", "4", "storage", "3.08M", "rdn"),
)


@lru_cache
def spent(name: str, bits: int, height: int, width: int) -> Cost:
    """The cost of an x4 network of the zoo, with its own list of layers at so many bits."""
    network = models.build(name, scale=4, weights=None)
    if bits < 32:
        picture = np.zeros((8, 8, 3), np.uint8)
        network = ptqsr.calibrate(network, picture, Config(method="minmax", bits=bits))
    return cost(network, height=height, width=width)


def ours(figure: Printed) -> float | None:
    if figure.needs:
        return None
    size = (720, 1280) if figure.paper == CADYQ else (1080, 1920)
    found = spent(figure.architecture, int(figure.bits), *size)
    if figure.paper == CADYQ:
        return found.listed_bitops
    return found.storage if figure.quantity == "storage" else found.bitops


def markdown(rows: list[Row]) -> str:
    heads = ("paper", "network", "bits", "quantity", "printed", "ours", "difference")
    return markdown_table(heads, (_line(row) for row in rows))


def _line(row: Row) -> list[str]:
    unit = row["printed"][-1]
    decimals = len(row["printed"]) - row["printed"].index(".") - 2
    cells = ["", f"needs {row['needs']}"]
    if row["ours"] is not None:
        figure = f"{row['ours'] / UNITS[unit]:.{decimals}f}{unit}"
        cells = [figure, f"{100 * row['difference']:+.2f} %"]
    return [*(row[key] for key in KEYS), row["printed"], *cells]


def results(path: Path) -> Results:
    order = [tuple(asdict(figure)[key] for key in KEYS) for figure in FIGURES]
    return Results(path, KEYS, markdown, order.index)


def fill(table: Results) -> None:
    keys = {figure: tuple(asdict(figure)[key] for key in KEYS) for figure in FIGURES}
    table.begin_again(keys.values(), (), fresh=True)
    for figure, key in keys.items():
        if table.get(*key) is None:
            found = ours(figure)
            difference = None if found is None else round(found / figure.value - 1, 6)
            table.put({**asdict(figure), "ours": found, "difference": difference, **origin()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=FOLDER / "complexity.json")
    table = results(parser.parse_args().json)
    fill(table)
    table.write()
    print(markdown(table.rows))


if __name__ == "__main__":
    main()
