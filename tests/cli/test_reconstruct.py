"""Block reconstruction from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import write_photograph

import ptqsr
from ptqsr import methods

Run = Callable[..., Any]
Refused = Callable[..., str]

METHODS = {
    "brecq": ("--method", "brecq", "--iterations", 20),
    "dfsq+": ("--method", "dfsq+", "--reconstruct", "--iterations", 20),
}


@pytest.mark.parametrize("method", METHODS)
def test_from_end_to_end(
    run: Run, job: list[object], out: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = out / "figures.json"
    held_out: list[int] = []

    calibrate = methods.calibrate

    def watched(*given: Any, **options: Any) -> Any:
        held_out.append(len(options["held_out"]))
        return calibrate(*given, **options)

    monkeypatch.setattr(methods, "calibrate", watched)
    result = run(*job, *METHODS[method], "--num-images", 4, "--bits", 3, "--json", figures)
    assert result.exit_code == 0, result.output
    network = ptqsr.load(out / "q.safetensors")
    assert network.calibration.iterations == 20
    assert network.calibration.reconstruct == (method == "dfsq+")
    assert held_out == [2]  # crops from the band, apart from those that are measured
    for record in json.loads(figures.read_text())["reconstruction"]:
        assert record["end"]["held_out"] < record["nearest"]["held_out"]


def test_pictures_too_small_to_hold_crops_out(run: Run, job: list[object], tmp_path: Path) -> None:
    for number in range(2):
        write_photograph(tmp_path / "small" / f"{number}.png", 26, 30, number)
    options = ("--method", "brecq", "--iterations", 2, "--images", tmp_path / "small")
    result = run(*job, *options)
    assert result.exit_code == 0
    assert "blocks stop by one in four of the calibration crops" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("pictures", "warned"), [(2, True), (8, False)])
def test_learning_from_few_pictures_is_said(
    run: Run, job: list[object], tmp_path: Path, pictures: int, warned: bool
) -> None:
    for number in range(pictures):
        write_photograph(tmp_path / "some" / f"{number}.png", 64, 80, number)
    options = ("--method", "brecq", "--iterations", 2, "--num-images", 2)
    result = run(*job, *options, "--images", tmp_path / "some")
    assert result.exit_code == 0
    said = "learning from 2 picture(s): weights fit themselves to so few; give --images a folder"
    assert (said in " ".join(result.stderr.split())) == warned


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--reconstruct",), "--reconstruct: is for --method dfsq+, not dfsq"),
        (
            ("--iterations", 5),
            "--iterations 5: is for --method brecq or qdrop or dfsq+ with --reconstruct, not dfsq",
        ),
        (("--method", "dfsq+", "--iterations", 5), "--iterations 5: goes with --reconstruct"),
        (("--method", "brecq", "--iterations", -1), "iterations is -1; it must be a whole number"),
        (("--method", "brecq", "--selector", "optimal"), "--selector optimal: is for"),
        (("--method", "dfsq+", "--reconstruct", "--iterations", 0), "iterations is 0: nothing"),
    ],
)
def test_options_that_do_not_fit(
    refused: Refused, job: list[object], out: Path, options: tuple[object, ...], named: str
) -> None:
    assert named in refused(*job, *options)
    assert not (out / "q.safetensors").exists()
