"""--deploy, and `ptqsr info CHECKPOINT`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import Run


def test_evaluate(run: Run, checkpoint: Path, pictures: Path, out: Path) -> None:
    figures = []
    for number, options in enumerate(((), ("--deploy",))):
        file = out / f"{number}.json"
        arguments = (checkpoint, "--data", pictures, "--json", file, *options)
        result = run("evaluate", *arguments)
        assert result.exit_code == 0 and ("(deployed)" in result.stdout) == bool(options)
        figures += json.loads(file.read_text())
    fake, ours = figures
    assert (fake["deployed"], ours["deployed"]) == (False, True)
    assert fake["bitops"] == ours["bitops"] and fake["fqr"] == ours["fqr"]
    apart = fake["data"][str(pictures)]["psnr"] - ours["data"][str(pictures)]["psnr"]
    assert 0 < abs(apart) < 0.1


def test_upscale(run: Run, checkpoint: Path, pictures: Path, out: Path) -> None:
    made = []
    for number, options in enumerate(((), ("--deploy",))):
        file = out / f"{number}.png"
        arguments = (pictures / "0.png", file, "-c", checkpoint, *options)
        assert run("upscale", *arguments).exit_code == 0
        made.append(np.asarray(Image.open(file)).astype(int))
    assert made[0].shape == made[1].shape == (60, 112, 3)
    assert 0 < np.abs(made[0] - made[1]).max() <= 4


def test_info(run: Run, checkpoint: Path, out: Path) -> None:
    result = run("info", checkpoint, "--json", out / "info.json")
    assert result.exit_code == 0 and "body.0.body.2" in result.stdout
    assert "residual" in result.stdout and "not quantized: PyTorch float32" in result.stdout
    figures = json.loads((out / "info.json").read_text())
    rows = {row["layer"]: row for row in figures["layers"]}
    assert rows["body.0.body.0"]["how"] == "int8 subset"
    assert rows["body.0.body.0"]["fused"] == ["ReLU"] and rows["body.0.body.0"]["statistics"]
    assert figures["not_traced"] is None and figures["other_steps"] > 0
    assert json.loads(run("info", checkpoint, "--json", "-").stdout) == figures


@pytest.mark.parametrize("command", ["info", "evaluate", "upscale"])
def test_float_network(
    command: str, refused: Callable[..., str], weights: Path, pictures: Path, out: Path
) -> None:
    arguments = {
        "info": (weights,),
        "evaluate": (weights, "--data", pictures, "--deploy"),
        "upscale": (pictures / "0.png", out / "x.png", "-c", weights, "--deploy"),
    }[command]
    line = refused(command, *arguments)
    assert str(weights) in line and "calibrate it first" in line


def test_set_that_is_not_int8(
    run: Run, refused: Callable[..., str], job: list[object], pictures: Path, out: Path
) -> None:
    assert run(*job, "--universal-set", "dfsq-code").exit_code == 0
    checkpoint = out / "q.safetensors"
    line = refused("evaluate", checkpoint, "--data", pictures, "--deploy")
    assert "universal set dfsq-code is not int8" in line
    assert "universal set dfsq-code is not int8: simulated" in run("info", checkpoint).stdout
