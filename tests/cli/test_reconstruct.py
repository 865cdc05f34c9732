"""Block reconstruction from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ptqsr

Run = Callable[..., Any]
Refused = Callable[..., str]

METHODS = {
    "brecq": ("--method", "brecq", "--iterations", 20),
    "dfsq+": ("--method", "dfsq+", "--reconstruct", "--iterations", 20),
}


@pytest.mark.parametrize("method", METHODS)
def test_from_end_to_end(run: Run, job: list[object], out: Path, method: str) -> None:
    figures = out / "figures.json"
    result = run(*job, *METHODS[method], "--num-images", 4, "--bits", 3, "--json", figures)
    assert result.exit_code == 0, result.output
    network = ptqsr.load(out / "q.safetensors")
    assert network.calibration.iterations == 20
    assert network.calibration.reconstruct == (method == "dfsq+")
    for record in json.loads(figures.read_text())["reconstruction"]:
        assert record["end"]["held_out"] < record["nearest"]["held_out"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--reconstruct",), "--reconstruct: is for --method dfsq+, not dfsq"),
        (("--iterations", 5), "--iterations 5: is for --method brecq or qdrop or dfsq+, not dfsq"),
        (("--method", "dfsq+", "--iterations", 5), "--iterations 5: goes with --reconstruct"),
        (("--method", "brecq", "--iterations", -1), "iterations is -1; it must be a whole number"),
        (("--method", "brecq", "--selector", "optimal"), "--selector optimal: is for"),
        (("--method", "brecq", "--num-images", 1), "one calibration picture is too few"),
    ],
)
def test_options_that_do_not_fit(
    refused: Refused, job: list[object], out: Path, options: tuple[object, ...], named: str
) -> None:
    assert named in refused(*job, *options)
    assert not (out / "q.safetensors").exists()
