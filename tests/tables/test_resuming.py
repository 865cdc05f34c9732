"""Every table's command goes on where it was interrupted, and its three files agree."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ptqsr


class Counter:
    """Counts calls, and interrupts one of them."""

    def __init__(self, of: Callable, interrupt: int) -> None:
        self.of, self.interrupt, self.calls = of, interrupt, 0

    def __call__(self, *arguments, **named):
        self.calls += 1
        if self.calls == self.interrupt:
            raise KeyboardInterrupt
        return self.of(*arguments, **named)


def run(
    table: Any,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *options: str,
) -> list[dict]:
    monkeypatch.setattr(sys, "argv", ["table", "--json", str(path), *options])
    table.main()
    return json.loads(path.read_text())["figures"]


def agree(path: Path, table: Any) -> None:
    """CSV has every row of the JSON, and Markdown is made of them."""
    rows = json.loads(path.read_text())["figures"]
    with path.with_suffix(".csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(rows)
    for line, row in zip(found, rows, strict=True):
        cells = {}
        for name, cell in row.items():
            parts = cell.items() if isinstance(cell, dict) else [(None, cell)]
            cells |= {f"{name} {part}" if part else name: value for part, value in parts}
        expected = {name: "" if cell is None else str(cell) for name, cell in cells.items()}
        assert {name: cell for name, cell in line.items() if cell or name in cells} == expected
    assert path.with_suffix(".md").read_text() == table.markdown(rows) + "\n"


def interrupted(
    table: Any,
    where: tuple[object, str],
    calls: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *options: str,
) -> list[dict]:
    """Run a table whole, and again interrupted: no call is made twice, the rows are the same."""
    owner, name = where
    original = getattr(owner, name)
    counter = Counter(original, 0)
    monkeypatch.setattr(*where, counter)
    whole = run(table, folder / "whole.json", monkeypatch, *options)
    assert counter.calls == calls
    path, stop = folder / "parts.json", 1 + calls // 2
    first, second = Counter(original, stop), Counter(original, 0)
    monkeypatch.setattr(*where, first)
    with pytest.raises(KeyboardInterrupt):
        run(table, path, monkeypatch, *options)
    agree(path, table)
    monkeypatch.setattr(*where, second)
    assert run(table, path, monkeypatch, *options) == whole
    # A call that was made again belongs to the row that was interrupted.
    assert second.calls <= calls - (stop - 1) + 1
    agree(path, table)
    last = Counter(original, 0)
    monkeypatch.setattr(*where, last)
    assert run(table, path, monkeypatch, *options) == whole and last.calls == 0
    return whole


METHODS = ("--methods", "MinMax", "dfsq+", "--bits", "4", "3")


def test_quality(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.tables import quality

    calibrate = Counter(ptqsr.calibrate, 0)
    monkeypatch.setattr(ptqsr, "calibrate", calibrate)
    options = (*METHODS, "--work", str(tmp_path / "work"))
    where = (ptqsr, "evaluate")
    rows = interrupted(quality, where, 15, tmp_path, monkeypatch, *options)
    assert [(row["method"], row["bits"]) for row in rows] == [
        ("float", 32),
        ("MinMax", 4),
        ("dfsq+", 4),
        ("MinMax", 3),
        ("dfsq+", 3),
    ]
    assert all(name in row for row in rows for name in quality.SETS)
    assert all(row["crops"] == 2 for row in rows[1:])
    # Once for all runs and sets: the checkpoint is kept.
    assert calibrate.calls == 4


def test_quality_comes_set_by_set(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.tables import quality

    options = (*METHODS, "--work", str(tmp_path / "work"))
    quick = run(quality, tmp_path / "a.json", monkeypatch, *options, "--quick")
    assert all("Set14" in row and "BSD100" not in row for row in quick)
    monkeypatch.setattr(ptqsr, "evaluate", Counter(ptqsr.evaluate, 6))
    with pytest.raises(KeyboardInterrupt):
        run(quality, tmp_path / "b.json", monkeypatch, *options)
    rows = json.loads((tmp_path / "b.json").read_text())["figures"]
    assert len(rows) == 5 and all("Set5" in row and "Set14" not in row for row in rows)


def test_quality_of_other_code(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole rows of other code stay, unless they are asked anew; others are begun again."""
    from benchmarks.tables import quality

    path, options = tmp_path / "a.json", (*METHODS, "--work", str(tmp_path / "work"))
    rows = run(quality, path, monkeypatch, *options)
    for row in rows:
        row["code"] = "older"
        row["Set5"]["psnr"] = 1.0
    del rows[1]["BSD100"]
    path.write_text(json.dumps({"figures": rows}))
    rows = run(quality, path, monkeypatch, *options)
    assert [row["Set5"]["psnr"] == 1 for row in rows] == [True, False, True, True, True]
    assert rows[1]["code"] != "older"
    rows = run(quality, path, monkeypatch, *options, "--fresh")
    assert all(row["code"] != "older" and row["Set5"]["psnr"] != 1 for row in rows)


def test_quality_of_other_options(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were asked for by other options are begun again; those that do not say stay."""
    from benchmarks.tables import quality

    path, options = tmp_path / "a.json", (*METHODS, "--work", str(tmp_path / "work"))
    whole = run(quality, path, monkeypatch, *options)
    rows = json.loads(path.read_text())["figures"]
    for row in rows:
        row["Set5"]["psnr"] = 1.0
    rows[1]["options"] = json.dumps({"method": "minmax", "crops": 1})
    del rows[2]["options"]
    path.write_text(json.dumps({"figures": rows}))
    rows = run(quality, path, monkeypatch, *options)
    assert [row["Set5"]["psnr"] == 1 for row in rows] == [True, False, True, True, True]
    assert rows[1] == whole[1]


def test_quality_side_by_side(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.tables import quality

    work = ("--work", str(tmp_path / "work"))
    whole = run(quality, tmp_path / "whole.json", monkeypatch, *METHODS, *work)
    files = [str(tmp_path / f"{bits}.json") for bits in (4, 3)]
    for bits, file in zip((4, 3), files, strict=True):
        run(quality, Path(file), monkeypatch, *METHODS[:3], "--bits", str(bits), *work)
    assert run(quality, tmp_path / "all.json", monkeypatch, "--merge", *files) == whole


def test_names_that_are_not_there(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.tables import quality

    for options, words in (
        (("--only", "none"), "--only none: there are toy"),
        (("--merge", str(tmp_path / "none.json")), "none.json: no table's JSON"),
    ):
        with pytest.raises(SystemExit, match=words):
            run(quality, tmp_path / "a.json", monkeypatch, *options)
    with pytest.raises(SystemExit, match="2"):
        run(quality, tmp_path / "a.json", monkeypatch, "--bits", "5")
    assert not (tmp_path / "a.json").exists()


def test_merged_rows_are_of_one_code() -> None:
    from benchmarks.tables.quality import merged

    cell = {"psnr": 1.0, "ssim": 1.0}
    one, other, new = {"code": "a", "Set5": cell}, {"code": "a", "Set14": cell}, {"code": "b"}
    both = {"code": "a", "Set5": cell, "Set14": cell}
    assert merged(None, one) == one and merged(one, other) == both
    assert merged(both, {**new, "Set5": cell}) == both
    assert merged(one, {**new, "Set5": cell}) == {**new, "Set5": cell}


@pytest.mark.parametrize("name", ["ablation", "recipe"])
def test_sweep(name: str, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = import_module(f"benchmarks.tables.{name}").SWEEP
    chosen = dict(list(whole.variants.items())[:4])
    table = replace(whole, networks=(toy,), variants=chosen)
    options = ("--quick", "--bits", "3")
    rows = interrupted(table, (ptqsr, "evaluate"), 8, tmp_path, monkeypatch, *options)
    assert [row["variant"] for row in rows] == list(chosen)
    file = str(tmp_path / "whole.json")
    assert run(table, tmp_path / "merged.json", monkeypatch, "--merge", file) == rows


def test_every_ingredient_and_clipping_run(toy: str) -> None:
    from benchmarks.tables import networks, recipe

    (network,) = networks.NETWORKS
    model, crops = network.build(Path()), network.crops(Path())
    found = {}
    for name, make in recipe.RECIPES.items():
        psnr = ptqsr.evaluate(make(model, crops, 3), networks.pairs(Path(), "Set5", 2)).psnr
        found[name] = psnr
    # Crops: there are but two; dfsq-107 is dfsq+'s own here.
    assert len(set(found.values())) >= len(found) - 3


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_all_ingredients_are_dfsq_plus(toy: str, bits: int) -> None:
    from benchmarks.tables import networks, recipe

    (network,) = networks.NETWORKS
    model, crops = network.build(Path()), network.crops(Path())
    ours = ptqsr.calibrate(model, crops, ptqsr.Config(method="dfsq+", bits=bits))
    made = recipe.RECIPES[recipe.DFSQ_PLUS](model, crops, bits)
    x = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        assert torch.equal(made(x), ours(x))


def test_a_sweeps_column_is_of_one_origin(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.tables.recipe import SWEEP

    first, second = list(SWEEP.variants.items())[:2]
    path, options = tmp_path / "a.json", ("--quick", "--bits", "4", "3")
    one = replace(SWEEP, networks=(toy,), variants=dict([first]))
    rows = [{**row, "code": "older"} for row in run(one, path, monkeypatch, *options)]
    path.write_text(json.dumps({"figures": rows}))
    assert all(row["code"] == "older" for row in run(one, path, monkeypatch, *options))
    two = replace(one, variants=dict([first, second]))
    rows = run(two, path, monkeypatch, "--quick", "--bits", "3")
    assert [(row["bits"], row["code"] == "older") for row in rows] == [
        (4, True),
        (3, False),
        (3, False),
    ]


def test_complexity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.tables import complexity

    monkeypatch.setattr(complexity, "ours", lambda figure: None if figure.needs else 1.02)
    calls = len(complexity.FIGURES)
    rows = interrupted(complexity, (complexity, "ours"), calls, tmp_path, monkeypatch)
    assert any(row["ours"] is None and row["needs"] for row in rows)


def test_selectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.tables import selectors

    z = np.random.default_rng(0).normal(0, 0.2, 500).clip(-1, 1)
    monkeypatch.setattr(selectors, "TENSORS", (("a", "b", 0),))
    table = selectors.results(tmp_path / "a.json")
    counter = Counter(selectors.compare, 4)
    monkeypatch.setattr(selectors, "compare", counter)
    job = ([("a, b, 0", z)], (9, 15), (50, 500), 3)
    with pytest.raises(KeyboardInterrupt):
        selectors.fill(table, *job)
    again = selectors.results(tmp_path / "a.json")
    assert [row["bits"] for row in again.rows] == [2, 2, 2]
    counter.interrupt = 0
    selectors.fill(again, *job)
    calls = counter.calls
    selectors.fill(again, *job)
    assert counter.calls == calls
    agree(tmp_path / "a.json", selectors)
    # Of other samples those rows alone are measured anew whose samples they were.
    before = len(again.rows)
    selectors.fill(again, [("a, b, 0", z[:400])], *job[1:])
    assert len(again.rows) == before and counter.calls > calls
    assert {row["samples"] for row in again.rows} == {50, 400, 500}
    selectors.fill(again, *job)
    losses = {(r["values"], r["bits"], r["selector"]): r["loss"] for r in again.rows[:12]}
    for (values, bits, _), loss in losses.items():
        least = losses[values, bits, "exhaustive"]
        assert losses[values, bits, "optimal"] == pytest.approx(least) and loss >= least * 0.999999


def test_verdicts_on_selectors() -> None:
    from benchmarks.tables.selector_pages import WAYS, verdicts

    def rows(power: dict[str, float], square: float = 1.9) -> list[dict]:
        found = [
            {"curve": "samples", "tensor": "a", "selector": name, "bits": 4}
            | {"samples": n, "seconds": n**p}
            for name, p in power.items()
            for n in (10**5, 10**6)
        ]
        found += [
            {"curve": "size", "tensor": "a", "selector": "optimal", "bits": bits, "values": n}
            | {"seconds": n**square}
            for bits in (2, 3, 4)
            for n in (255, 1065)
        ]
        return [{**row, "seconds": {"median": row["seconds"]}} for row in found]

    fine = dict(zip(WAYS, (1.0, 0.1, 0.1, 1.1), strict=True))
    assert [v.kept for v in verdicts(rows(fine))] == [True] * 7
    assert [v.kept for v in verdicts(rows(dict.fromkeys(WAYS, 1.3)))] == [False] * 4 + [True] * 3
    assert [v.kept for v in verdicts(rows(fine, 2.3))] == [True] * 4 + [False] * 3
    assert [v.kept for v in verdicts([])] == [None] * 7
