"""The commands do what they say, and say it where asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import write_photograph
from PIL import Image
from safetensors.torch import load_file, save_file

import ptqsr
from ptqsr import checkpoint as checkpoints
from ptqsr import models
from ptqsr.images import downscale, read_rgb

from .conftest import OPTIMAL, Run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_calibrate_then_evaluate(run: Run, job: list[object], pictures: Path, out: Path) -> None:
    result = run(*job)
    assert result.exit_code == 0 and result.stderr.startswith("Written: ")
    assert "4 of 8" in result.stdout and "held-out" in result.stdout
    assert [path.name for path in out.iterdir()] == ["q.safetensors"]
    result = run("evaluate", out / "q.safetensors", "--data", pictures)
    assert result.exit_code == 0 and result.stderr == ""
    assert "q.safetensors" in result.stdout and "FQR" in result.stdout


def test_a_collapse_is_said(run: Run, out: Path) -> None:
    """Where a method is at its end, a line says what else to try."""
    job = ("calibrate", "--model", "edsr", "--num-images", 2, "-o", out / "q.safetensors")
    few = run(*job, "--method", "minmax", "--bits", 2)
    assert few.exit_code == 0
    line = next(line for line in few.stderr.splitlines() if "lost" in line)
    assert "dB are lost on held-out crops; try --method dfsq+, or more bits" in line
    assert "lost" not in run(*job, "--method", "minmax", "--bits", 8).stderr


@pytest.mark.parametrize("method", ["dfsq", "minmax", "percentile"])
def test_figures_are_those_of_the_checkpoint(
    run: Run, job: list[object], pictures: Path, out: Path, method: str
) -> None:
    bits = ("--method", method, "--weight-bits", 8, "--act-bits", 4)
    result = run(*job, *bits, "--json", "-")
    assert result.exit_code == 0
    figures = json.loads(result.stdout)
    assert "quantized" in result.stderr  # the table has moved there
    assert figures["method"] == method and figures["scale"] == 2
    assert (figures["weight_bits"], figures["act_bits"]) == (8, 4)
    assert (figures["quantized_layers"], figures["layers"]) == (4, 8)
    network = ptqsr.load(out / "q.safetensors")
    spent = json.loads(
        run("evaluate", out / "q.safetensors", "--data", pictures, "--json", "-").stdout
    )[0]
    assert spent["bitops"] == figures["bitops"]["quantized"] < figures["bitops"]["full_precision"]
    assert spent["storage_bytes"] == figures["storage_bytes"]["quantized"]
    assert network.calibration.method == method


def test_evaluate_agrees_with_the_library(
    run: Run, checkpoint: Path, pictures: Path, out: Path
) -> None:
    result = run("evaluate", checkpoint, "--data", pictures, "--json", out / "figures.json")
    assert result.exit_code == 0 and "q.safetensors" in result.stdout
    figures = json.loads((out / "figures.json").read_text())
    expected = ptqsr.evaluate(ptqsr.load(checkpoint), pictures)
    assert figures[0]["data"][str(pictures)] == expected.to_json()
    assert sorted(path.name for path in out.iterdir()) == ["figures.json", "q.safetensors"]


def test_networks_of_one_name_are_told_apart(
    run: Run, checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{folder}/q.safetensors" for folder in "ab"]
    for name in names:
        Path(name).parent.mkdir()
        shutil.copy(checkpoint, name)
    result = run("evaluate", *names, "--data", pictures)
    assert result.exit_code == 0 and all(name in result.stdout for name in names)


def test_networks_and_folders_side_by_side(
    run: Run, checkpoint: Path, weights: Path, pictures: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs"
    for number in range(2):
        hr = read_rgb(write_photograph(pairs / "HR" / f"p{number}.png", 25, 30, number))
        (pairs / "LR").mkdir(exist_ok=True)
        Image.fromarray(downscale(hr, 2)[0]).save(pairs / "LR" / f"p{number}x2.png")
    folders = ("--data", pictures, "--data", pairs)
    result = run("evaluate", weights, checkpoint, *folders, "--per-image", "--json", "-")
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)
    assert [record["network"] for record in records] == [str(weights), str(checkpoint)]
    assert records[0]["fqr"] == 32 and records[1]["fqr"] < 32
    for record in records:
        assert list(record["data"]) == [str(pictures), str(pairs)]
        names = [image["name"] for image in record["data"][str(pairs)]["images"]]
        assert names == ["p0", "p1"]
    # Every picture has a line for each network.
    assert result.stderr.count("pairs/p1") == result.stderr.count("pictures/0") == 2
    alone = run("evaluate", weights, "--data", pairs, "--json", "-")
    assert json.loads(alone.stdout)[0]["data"][str(pairs)] == records[0]["data"][str(pairs)]


def test_low_resolution(run: Run, job: list[object], out: Path) -> None:
    result = run(*job, *OPTIMAL, "--low-resolution", "--json", "-")
    assert result.exit_code == 0 and "against the full-precision output" in result.stderr
    psnr = json.loads(result.stdout)["psnr"]
    assert psnr["full_precision"] is None and psnr["quantized"] > 20
    assert psnr["reference"] == "full-precision output"
    assert (out / "q.safetensors").is_file()


def test_default_name_of_the_checkpoint(
    run: Run, job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*job[:-2], *OPTIMAL, "--act-bits", 6).exit_code == 0
    assert (tmp_path / "edsr_x2_dfsq_w4a6.safetensors").is_file()


def test_edges(
    run: Run, job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*job[:-2], *OPTIMAL, "--edges", 8, "--json", "-")
    assert result.exit_code == 0 and "W4A4, edges W8A8" in result.stderr
    figures = json.loads(result.stdout)
    assert figures["edges"] == 8 and figures["quantized_layers"] == figures["layers"] == 8
    path = tmp_path / "edsr_x2_dfsq_w4a4_edges8.safetensors"
    assert ptqsr.load(path).calibration.edges == 8


def test_names_with_brackets(run: Run, job: list[object], pictures: Path, out: Path) -> None:
    """Markup in a name would vanish from the table, or break it."""
    folder = pictures.rename(pictures.parent / "set [b] :smile:")
    target = out / "a[b].safetensors"
    result = run(*job, *OPTIMAL, "--images", folder, "-o", target)
    assert result.exit_code == 0 and f"Written: {target}  " in result.stderr
    result = run("evaluate", target, "--data", folder, "--per-image")
    assert "a[b].safetensors" in result.stdout and "set [b] :smile:/0" in result.stdout


def test_include_and_exclude(run: Run, job: list[object], out: Path) -> None:
    assert run(*job, *OPTIMAL, "--include", "tail.*", "--exclude", "body.0.*").exit_code == 0
    manifest, _ = checkpoints.read(out / "q.safetensors")
    layers = {"body.1.body.0", "body.1.body.2", "tail.0.0", "tail.1"}
    assert manifest["layers"].keys() == layers


def test_same_seed_same_tensors(run: Run, job: list[object], out: Path) -> None:
    def tensors(name: str, *options: object) -> dict[str, torch.Tensor]:
        assert run(*job, *options, "-o", out / name).exit_code == 0
        return load_file(out / name)

    one, two, other = (
        tensors("1.safetensors"),
        tensors("2.safetensors"),
        tensors("3.safetensors", "--seed", 1),
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_info(run: Run, out: Path) -> None:
    result = run("info")
    assert result.exit_code == 0 and torch.__version__ in result.stdout
    result = run("info", "--json", out / "info.json")
    figures: dict[str, Any] = json.loads((out / "info.json").read_text())
    assert figures["ptqsr"] == ptqsr.__version__ and figures["threads"] >= 1
    assert json.loads(run("info", "--json", "-").stdout) == figures


def test_version_and_help(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"{ptqsr.__version__}\n")
    for command in ("calibrate", "evaluate", "train", "info"):
        assert run(command, "--help").exit_code == 0


def test_train_then_go_on(run: Run, pictures: Path, out: Path, weights: Path) -> None:
    options = ("--scale", 2, "--weights", weights, "--patch-size", 8, "--batch-size", 1)
    options += ("--validation-images", 1, "--precision", "fp32", "--validate-every", 2)
    job = ("train", "--images", pictures, "-o", out / "run", *options)
    result = run(*job, "--steps", 2)
    assert result.exit_code == 0, result.output
    assert "1 pictures to train on" in result.stderr and "validation" in result.stderr
    result = run(*job, "--steps", 4)
    assert result.exit_code == 2 and "--resume" in result.stderr
    assert run(*job, "--steps", 4, "--resume").exit_code == 0
    evaluated = run("evaluate", out / "run" / "weights.safetensors", "--data", pictures)
    assert evaluated.exit_code == 0
    log = (out / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [2, 4]


def test_train_from_another_scale(run: Run, pictures: Path, out: Path, weights: Path) -> None:
    small = ("--set", "blocks=2", "--set", "width=16", "--steps", 1, "--warmup", 0, "--ema", 0)
    small += ("--batch-size", 1, "--patch-size", 8, "--validation-images", 0)
    job = ("train", "--scale", 3, *small, "--learning-rate", 1e-12, "--images", pictures)
    result = run(*job, "-o", out / "run", "--transfer", weights)
    assert result.exit_code == 0, result.output
    assert "from scratch: tail.0.0.weight, tail.0.0.bias\n" in result.stderr
    given, made = load_file(weights), load_file(out / "run" / "weights.safetensors")
    assert torch.allclose(made["body.0.body.0.weight"], given["body.0.body.0.weight"], atol=1e-6)
    result = run(*job, "-o", out / "b", "--transfer", weights, "--weights", weights)
    assert result.exit_code == 2 and "--transfer" in result.stderr
    save_file({"other": torch.zeros(3)}, out / "other.safetensors")
    result = run(*job, "-o", out / "c", "--transfer", out / "other.safetensors")
    assert result.exit_code == 2 and "none of its tensors fits" in result.stderr


def test_models(run: Run) -> None:
    result = run("models", "--scale", 2, "--json", "-")
    assert "1bc95232" in result.stderr  # the table has moved there
    records = {record["title"]: record for record in json.loads(result.stdout)}
    assert {record["model"] for record in records.values()} == set(models.ARCHITECTURES)
    assert records["EDSR-baseline"]["official"].endswith("edsr_baseline_x2-1bc95232.pt")
    assert records["IDN on luma"]["set"] == {"colours": "y"}
    assert records["RDN"]["quantized_layers"] == 146
    assert run("models", "--scale", 5).exit_code == 2


def test_hyperparameters_by_name(run: Run, pictures: Path, out: Path) -> None:
    options = ("--set", "batch_norm=true", "--set", "width=8", "--set", "blocks=1")
    small = ("--steps", 1, "--batch-size", 1, "--patch-size", 8, "--validation-images", 0)
    folders = ("--images", pictures, "-o", out / "run")
    assert run("train", "--scale", 2, *options, *small, *folders).exit_code == 0
    network = models.load(out / "run" / "weights.safetensors")
    assert network.hyperparameters["batch_norm"] and network.hyperparameters["width"] == 8
    fresh = ("--images", pictures, "-o", out / "other")
    for wrong in ("width", "=3", "scale=2"):
        result = run("train", "--set", wrong, *fresh)
        assert result.exit_code == 2 and f"--set {wrong}" in result.stderr
    assert "depth" in run("train", "--set", "depth=3", *fresh).stderr
