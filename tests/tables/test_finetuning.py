"""The tables of methods that train: rows go on where they were, the page and the verdicts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import write_photograph

import ptqsr
from ptqsr.training import Trainer

from .test_resuming import Counter, interrupted, run

SETTINGS = ["--steps", "2", "--batch", "2", "--patch", "8", "--validate-every", "1", "--quick"]


@pytest.fixture
def options(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those of the command, with every row's network a toy."""
    from benchmarks.tables.runs import RUNS

    for name, row in list(RUNS.items()):
        monkeypatch.setitem(RUNS, name, replace(row, network=toy))
    for number in range(12):
        write_photograph(tmp_path / "train" / f"{number}.png", 20, 22, number)
    return [*SETTINGS, "--data", str(tmp_path), "--work", str(tmp_path / "work")]


def cells(rows: list[dict]) -> dict[str, dict]:
    """What rows have measured, without what time and place did to them."""
    strange = ("seconds", "seconds_per_step")
    return {r["row"]: {k: v for k, v in r.items() if k not in strange} for r in rows}


def test_rows(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.tables import finetuning, trained_papers

    asked = ("--rows", "float", "MinMax 4", "ODM 2, variance alone", "CADyQ")
    where = (ptqsr, "evaluate")
    rows = interrupted(finetuning, where, 20, tmp_path, monkeypatch, *options, *asked)
    found = {row["row"]: row for row in rows}
    assert list(found) == [
        "float", "PAMS 8", "MinMax 4", "ODM 2", "CADyQ", "ODM 2, variance alone",
    ]  # fmt: skip
    assert all("Set5" in row and "Set14" in row and row["bitops"] for row in rows)
    pams, odm, cadyq = (found[name] for name in ("PAMS 8", "ODM 2", "CADyQ"))
    assert list(pams["curve"]) == ["1", "2"] and pams["steps"] == 2 and pams["batch"] == 2
    assert pams["bitops"] < found["float"]["bitops"] and pams["Set5"]["fqr"] == 8
    assert 0 <= odm["conflict"] <= 1 and odm["mismatch"]["mean after"] > 0
    assert odm["variance_weight"] == found["ODM 2, variance alone"]["variance_weight"] > 0
    assert "Set5 deployed" in pams and "Set5 deployed" not in odm
    assert cadyq["Set5 by patches deployed"]["fqr"] == cadyq["Set5 by patches"]["fqr"]
    assert 4 <= cadyq["Set5 by patches"]["fqr"] <= 8 and list(cadyq["fqr curve"]) == ["1", "2"]
    text = trained_papers.page(rows)
    assert text.count("**") >= 2 and "CADyQ, Table 5" in text and "DAQ, 2 bits" in text
    assert "| PAMS 8 |" in trained_papers.curves(rows)


def test_training_goes_on(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the second step it makes that alone; the row is what it would have been."""
    from benchmarks.tables import finetuning

    asked = [*options, "--rows", "PAMS 8, random start"]
    whole = run(finetuning, tmp_path / "whole.json", monkeypatch, *asked)
    asked[asked.index("--work") + 1] = str(tmp_path / "other")
    step = Trainer._one_step
    for stop in (2, 0):
        counter = Counter(step, stop)
        monkeypatch.setattr(Trainer, "_one_step", lambda trainer, rate, c=counter: c(trainer, rate))
        if stop:
            with pytest.raises(KeyboardInterrupt):
                run(finetuning, tmp_path / "parts.json", monkeypatch, *asked)
    rows = run(finetuning, tmp_path / "parts.json", monkeypatch, *asked)
    assert counter.calls == 1 and cells(rows) == cells(whole)
    assert run(finetuning, tmp_path / "plain.json", monkeypatch, *asked[:-1], "PAMS 8") != whole


def test_rows_of_another_scale_or_place(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.tables import finetuning

    path = tmp_path / "a.json"
    run(finetuning, path, monkeypatch, *options, "--rows", "PAMS 8")
    other = [*options, "--steps", "1", "--rows", "PAMS 8"]
    with pytest.raises(SystemExit, match="PAMS 8: of other steps"):
        run(finetuning, path, monkeypatch, *other)
    (row,) = run(finetuning, path, monkeypatch, *other, "--fresh")
    assert row["steps"] == 1
    away = [*options, "--steps", "1", "--work", str(tmp_path / "none"), "--rows", "CADyQ"]
    with pytest.raises(SystemExit, match=r"PAMS 8: there is no .*--fresh makes"):
        run(finetuning, path, monkeypatch, *away)
    beside = tmp_path / "b.json"
    run(finetuning, beside, monkeypatch, *options, "--rows", "MinMax 4")
    rows = run(finetuning, path, monkeypatch, "--merge", str(beside))
    assert [row["row"] for row in rows] == ["PAMS 8", "MinMax 4"]


def test_tables_name_rows() -> None:
    from benchmarks.tables import finetuning, trained_papers
    from benchmarks.tables.runs import PROBES, RUNS

    named = {run for table in trained_papers.tables() for run in trained_papers.rows_of(table)}
    assert named | set(PROBES) == set(RUNS) - {"MinMax 4"}
    assert finetuning.wanted([], ["CADyQ 3"])[:2] == ["PAMS 8", "CADyQ"]
    assert finetuning.wanted([], ["rates"])[-1] in PROBES
    first = ["float", "PAMS 8", "PAMS 4", "MinMax 4", "ODM 4", "ODM 3", "ODM 2", "PAMS 2", "CADyQ"]
    assert finetuning.wanted([], [])[:9] == first
    lines = trained_papers.printed()
    for line in lines:
        group = [
            o["row"]
            for o in lines
            if (o["table"], o["network"]) == (line["table"], line["network"])
        ]
        assert not line["against"] or line["against"] in group


def test_the_papers_figures() -> None:
    """What the papers' texts say of their tables."""
    from benchmarks.tables.trained_papers import printed

    def psnr(table: str, network: str, row: str, name: str) -> float:
        for line in printed():
            if (line["table"], line["network"], line["row"]) == (table, network, row):
                return float(line[name].split("/")[0])
        raise AssertionError((table, network, row))

    def gain(table: str, network: str, better: str, other: str, name: str) -> float:
        return round(psnr(table, network, better, name) - psnr(table, network, other, name), 3)

    assert gain("PAMS 2", "EDSR x4, 8 bits", "PAMS", "DoReFa", "Set14") == 1.288
    assert gain("PAMS 2", "EDSR x4, 8 bits", "PAMS", "DoReFa", "Urban100") == 1.796
    assert gain("PAMS 1", "RDN x4", "8 bits", "RDN", "Urban100") == 0.074
    assert gain("PAMS 1", "EDSR x4", "EDSR", "4 bits", "BSD100") == 0.24
    assert gain("PAMS 6", "EDSR x4, 4 bits", "with SKT", "without SKT", "Urban100") == 0.071
    assert gain("ODM 1", "EDSR x4", "EDSR", "ODM, 4 bits", "Set5") == 0.07
    ablation = ("variance, cooperative (b)", "variance everywhere (a)")
    assert gain("ODM 5", "EDSR x4, 2 bits", *ablation, "Set5") == 0.23
    assert (
        gain("CADyQ 4", "CARN x4, ours EDSR", "all losses", "plain bit loss (4b)", "Urban100")
        == 0.26
    )
    places = [(line["table"], line["network"], line["row"]) for line in printed()]
    assert len(set(places)) == len(places)


def row(name: str, psnr: float, fqr: float = 8.0, steps: int = 3000, apart: float = 0.02) -> dict:
    cell = {"psnr": psnr, "ssim": 0.9, "fqr": fqr, "body_bitops": 1e9}
    found = {"row": name, "method": "", "steps": steps, "Set5": cell, "Set5 by patches": cell}
    deployed = {**cell, "psnr": psnr - apart}
    return {**found, "Set5 deployed": deployed, "Set5 by patches deployed": deployed}


def test_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.tables import finetuning
    from benchmarks.tables.check import report
    from benchmarks.tables.goals import verdicts

    kept = {"float": 31.64, "PAMS 8": 31.6, "PAMS 4": 31.2, "MinMax 4": 31.2, "ODM 4": 31.4}
    kept |= {"ODM 3": 31.3, "ODM 2": 31.0, "PAMS 2": 30.9}
    rows = {name: row(name, psnr) for name, psnr in kept.items()}
    rows["CADyQ"] = row("CADyQ", 31.5, 6.49)

    def broken(*others: dict) -> list[str]:
        changed = {**rows, **{other["row"]: other for other in others}}
        return [verdict.text for verdict in verdicts(list(changed.values())) if not verdict.kept]

    assert not broken() and report(verdicts(list(rows.values()))) == 0
    for other, what in (
        (row("PAMS 8", 31.58), "PAMS 8 at least float"),
        (row("PAMS 4", 31.19), "PAMS 4 at least MinMax 4"),
        (row("ODM 2", 30.99), "ODM 2 at least PAMS 2"),
        (row("ODM 4", 31.29), "ODM 4 at least ODM 3"),
        (row("ODM 3", 30.99), "ODM 3 at least ODM 2"),
        (row("CADyQ", 31.49, 6.0), "CADyQ at least PAMS 8"),
        (row("CADyQ", 31.5, 6.5), "CADyQ's FQR below 6.5"),
        (row("PAMS 2", 30.9, steps=3001), "the same number of steps"),
        (row("PAMS 8", 31.6, apart=0.06), "PAMS 8 deployed within 0.05 dB: -0.06"),
        (row("ODM 4", 31.4, apart=-0.03), "ODM 4 deployed within 0.02 dB: +0.03"),
        (row("CADyQ", 31.5, 6.4, apart=0.06), "CADyQ deployed within 0.05 dB"),
    ):
        assert len(found := broken(other)) == 1 and what in found[0]
    del rows["ODM 3"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"figures": list(rows.values())}))
    monkeypatch.setattr("sys.argv", ["finetuning", "--json", str(path), "--check"])
    with pytest.raises(SystemExit) as end:
        finetuning.main()
    assert end.value.code == 2
