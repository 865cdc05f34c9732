"""`ptqsr finetune`, and what the other commands make of its result."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from helpers import write_photograph
from PIL import Image

import ptqsr
from ptqsr.cli.finetune import finetune
from ptqsr.cli.tuning import USED_BY
from ptqsr.modules import placed
from ptqsr.training.methods import METHODS

from .conftest import Run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tuning(weights: Path, pictures: Path, out: Path) -> list[object]:
    """The arguments of a run that works; later ones override them."""
    return [
        *("finetune", "--weights", weights, "--images", pictures, "-o", out / "run"),
        *("--steps", 3, "--batch-size", 2, "--patch-size", 8, "--validation-images", 1),
        *("--precision", "fp32"),
    ]


@pytest.mark.parametrize("method", ["pams", "odm"])
def test_from_training_to_pictures(
    run: Run, tuning: list[object], weights: Path, pictures: Path, out: Path, method: str
) -> None:
    result = run(*tuning, "--method", method, "--bits", 4, "--json", out / "f.json")
    assert result.exit_code == 0, result.output
    figures = json.loads((out / "f.json").read_text())
    assert figures["method"] == method and figures["step"] == 3
    assert figures["full_precision_psnr"] > 0 and figures["validation_psnr"] > 0
    checkpoint = Path(figures["checkpoint"])
    assert checkpoint == out / "run" / "quantized.safetensors"
    assert f"Written: {checkpoint}" in result.stderr
    assert "Ranges start from 1 batches" in result.stderr
    if method == "odm":
        chosen = json.loads((out / "run" / "variance_weight.json").read_text())
        assert figures["variance_weight"] == chosen["variance_weight"]
        assert (out / "run" / "mismatch.json").exists()
        assert result.stderr.count("dB on pictures set aside") == 3
    for deploy in ([], ["--deploy"]):
        measured = run("evaluate", checkpoint, "--data", pictures, *deploy, "--json", "-")
        (record,) = json.loads(measured.stdout)
        assert record["fqr"] == 4 and record["data"][str(pictures)]["psnr"] > 0
        made = out / f"made{len(deploy)}"
        assert run("upscale", pictures, made, "-c", checkpoint, *deploy).exit_code == 0
        assert Image.open(made / "0.png").size == (112, 60)
    shown = json.loads(run("info", checkpoint, "--json", "-").stdout)
    hows = [row["how"] for row in shown["layers"] if row["layer"].startswith("body.")]
    assert hows.count("int8 uniform") == 4
    remarks = " ".join(row["remark"] for row in shown["layers"])
    assert ("encoded with" in remarks) == (method == "odm")
    few = ["--no-latency", "--crops", 1, "--crop-size", 10, "-o", out / "r.html", "--json", "-"]
    result = run("report", checkpoint, "--weights", weights, "--data", pictures, *few)
    (record,) = json.loads(result.stdout)["networks"]
    assert record["recipe"] == f"{method}, W4A4" and len(record["layers"]) == 4


def test_resumed_on_the_command_line(
    run: Run, refused: Run, tuning: list[object], out: Path
) -> None:
    assert run(*tuning).exit_code == 0
    assert "holds a run already; go on with --resume" in refused(*tuning)
    result = run(*tuning, "--resume", "--steps", 5)
    assert result.exit_code == 0 and "step 5:" in result.stderr
    assert "was made with bits = 4, not 3" in refused(*tuning, "--resume", "--bits", 3)
    (out / "run" / "state.pt").unlink()
    result = run(*tuning, "--resume")
    assert result.exit_code == 0 and "nothing was saved yet; begins at step 0" in result.stderr
    assert "no such folder" in refused(*tuning, "-o", out / "gone", "--resume")


def test_the_papers_placement_is_not_deployed(
    run: Run, refused: Run, tuning: list[object], pictures: Path, out: Path
) -> None:
    assert run(*tuning, "--placement", "paper", "--bits", 8).exit_code == 0
    checkpoint = out / "run" / "quantized.safetensors"
    assert len(list(placed(ptqsr.load(checkpoint)))) == 4
    assert run("evaluate", checkpoint, "--data", pictures).exit_code == 0
    for command in (
        ["evaluate", checkpoint, "--data", pictures, "--deploy"],
        ["upscale", pictures, out / "made", "-c", checkpoint, "--deploy"],
        ["info", checkpoint],
    ):
        assert "fine-tune with --placement deployable" in refused(*command)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "qat"], "method 'qat' is unknown; choose pams, odm"),
        (["--bits", 1], "bits is 1; it must be a whole number from 2 to 8"),
        (["--act-bits", 9], "act_bits is 9"),
        (["--placement", "everywhere"], "placement 'everywhere' is unknown"),
        (["--placement", "paper", "--method", "odm"], "odm has no such form"),
        (["--skt", "max"], "skt 'max' is unknown"),
        (["--steps", 0], "steps is 0"),
        (["--learning-rate", 0], "learning_rate and clip must be positive"),
        (["--range-learning-rate", -1], "--range-learning-rate -1.0: must be a finite number"),
        (["--init-batches", 0], "init_batches is 0"),
        (["--variance-weight", 1], "--variance-weight: is for --method odm, not pams"),
        (["--no-cooperative"], "--no-cooperative: is for --method odm, not pams"),
        (["--offset-ratio", 0.3], "--offset-ratio: is for --method odm, not pams"),
        (
            ["--range-learning-rate", 1, "--method", "tflite"],
            "--range-learning-rate: is for --method pams, odm, cadyq, pact, not tflite",
        ),
        (["--offset-ratio", 2, "--method", "odm"], "offset_ratio is 2.0"),
        (["--method", "odm", "--validation-images", 0], "give --variance-weight"),
        (["--include", "nothing.*"], "pattern 'nothing.*' matches none"),
        (["--precision", "fp8"], "precision 'fp8' is unknown"),
        (["--device", "abacus"], "abacus"),
        (["--weights", "gone.pt"], "gone.pt: no such file"),
        (["--images", "gone"], "gone: no such folder"),
        (["--patch-size", 99], "lower --patch-size"),
        (["-o", "/dev/null/run"], "/dev/null/run: /dev/null is a file"),
    ],
    ids=str,
)
def test_bad_input(
    refused: Run, tuning: list[object], out: Path, options: list[object], message: str
) -> None:
    assert message in refused(*tuning, *options)
    assert not list(out.iterdir())


def test_no_pictures(refused: Run, out: Path) -> None:
    message = refused("finetune", "-o", out / "run")
    assert "as DIV2K; to quantize without data use `ptqsr calibrate`" in message


def test_pictures_set_aside_of_few(run: Run, weights: Path, tmp_path: Path, out: Path) -> None:
    for number in range(10):
        write_photograph(tmp_path / "ten" / f"{number}.png", 18, 18, number)
    result = run(
        *("finetune", "--weights", weights, "--images", tmp_path / "ten", "-o", out / "run"),
        *("--steps", 1, "--batch-size", 2, "--patch-size", 8),
    )
    assert "8 pictures to train on, 2 to validate on" in result.stderr


def test_the_methods_options_are_under_headings(run: Run) -> None:
    shown = run("finetune", "--help").stdout
    for heading in ("What is quantized", "Training", "ODM", "CADyQ", "The run"):
        assert f" {heading} " in shown


def test_the_table_of_options_is_of_options() -> None:
    assert set(USED_BY) < set(inspect.signature(finetune).parameters)
    assert all(set(methods) < set(METHODS) for methods in USED_BY.values())
