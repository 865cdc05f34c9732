"""Rows that survive an interruption, as JSON, CSV and Markdown beside each other.

The JSON is the truth: machine, commit and command of the last write, then the rows (`figures`); a
row names what made it (`origin`). CSV has all cells of the rows, Markdown a table's
own form.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

import ptqsr
from benchmarks.timer import write
from ptqsr.benchmarking.timer import machine
from ptqsr.files import replacing
from ptqsr.models import SRNetwork

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "results" / "tables"

# What a figure depends on; the rest may change without making rows anew.
PARTS = (
    "calibration",
    "checkpoint.py",
    "cli/crops.py",
    "config.py",
    "evaluation",
    "images",
    "methods",
    "models",
    "modules",
    "native.py",
    "ops",
    "packing.py",
    "plan.py",
    "points",
    "quantizers",
)
TABLES = ("ablation.py", "networks.py", "recipe.py", "variants.py")
CODE = [
    "csrc",
    *(f"ptqsr/{part}" for part in PARTS),
    *(f"benchmarks/tables/{part}" for part in TABLES),
]

SETS = ("Set5", "Set14", "BSD100")

Row = dict[str, Any]
Key = tuple[Any, ...]


@cache
def origin(*more: str) -> Row:
    """Return what a row's figures depend on: the last commit of what computes them (`code`), and
    processor (`cpu`), `threads` and PyTorch, whose order of summation moves low-bit networks.

    `more`: files that count, besides CODE.
    """
    code = [*CODE, *more]
    commit = _git("log", "-1", "--format=%h", "--", *code)
    changes = [_git(*command, "--", *code) for command in (("status", "-s"), ("diff",))]
    if any(changes):
        # Of one change, too, rows and calibrated networks are not of another.
        commit += f"-dirty-{hashlib.sha256(''.join(changes).encode()).hexdigest()[:7]}"
    return {
        "code": commit,
        "cpu": machine()["cpu"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def same_origin(row: Row, other: Row) -> bool:
    return all(row.get(name) == other.get(name) for name in ("code", "cpu", "threads", "torch"))


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip()


def read(path: Path) -> list[Row]:
    """Return the rows of a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["figures"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path}: no table's JSON ({error})") from None


def cell(network: SRNetwork, pairs: Sequence[Any]) -> Row:
    """Return what a row says of a set."""
    found = ptqsr.evaluate(network, pairs)
    return {"psnr": round(found.psnr, 4), "ssim": round(found.ssim, 5)}


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def csv_table(rows: Iterable[Row]) -> str:
    """Return all cells of all rows; a cell that holds a dictionary becomes one column for each."""
    flat = [dict(_cells(row)) for row in rows]
    heads = list(dict.fromkeys(head for row in flat for head in row))
    text = io.StringIO()
    table = csv.DictWriter(text, heads, lineterminator="\n")
    table.writeheader()
    table.writerows(flat)
    return text.getvalue()


def _cells(row: Row) -> Iterable[tuple[str, Any]]:
    for name, cell in row.items():
        if isinstance(cell, dict):
            yield from ((f"{name} {part}", value) for part, value in cell.items())
        else:
            yield name, cell


class Results:
    """The rows of a table's files, by key; every `put` writes all three files.

    `order` sorts keys: rows come out the same in whatever order they were computed.
    """

    def __init__(
        self,
        path: Path,
        keys: Sequence[str],
        markdown: Callable[[list[Row]], str],
        order: Callable[[Key], Any] | None = None,
    ) -> None:
        self.path, self.keys, self.markdown, self.order = path, keys, markdown, order
        self._rows = {self.key(row): row for row in (read(path) if path.exists() else [])}

    def key(self, row: Row) -> Key:
        return tuple(row[key] for key in self.keys)

    def get(self, *key: Any) -> Row | None:
        return self._rows.get(key)

    @property
    def rows(self) -> list[Row]:
        keys = self._rows if self.order is None else sorted(self._rows, key=self.order)
        return [self._rows[key] for key in keys]

    def put(self, *rows: Row) -> None:
        """Take rows in, each in the place of an older one of its key, and write the files."""
        self._rows |= {self.key(row): row for row in rows}
        self.write()

    def begin_again(self, keys: Iterable[Key], wanted: Sequence[str], *, fresh: bool) -> None:
        """Forget the rows of these keys that are of another origin.

        Those alone that lack what is wanted, or with `fresh` all: a row is of one origin. The files
        follow with the next `put`.
        """
        asked = set(keys)
        self.drop(
            lambda row: (
                self.key(row) in asked
                and not same_origin(row, origin())
                and (fresh or not all(name in row for name in wanted))
            )
        )

    def drop(self, unwanted: Callable[[Row], bool]) -> None:
        """Forget rows; the files follow with the next `put`."""
        self._rows = {key: row for key, row in self._rows.items() if not unwanted(row)}

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write(str(self.path), self.rows)
        texts = {".csv": csv_table(self.rows), ".md": self.markdown(self.rows) + "\n"}
        for suffix, text in texts.items():
            with replacing(self.path.with_suffix(suffix)) as temporary:
                temporary.write_text(text, encoding="utf-8")
