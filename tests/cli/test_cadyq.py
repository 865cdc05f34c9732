"""CADyQ on the command line, from its teacher to pictures, and what it says of bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import tiny_edsr, write_photograph
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

import ptqsr
from ptqsr.cli.app import app
from ptqsr.evaluation import cost
from ptqsr.models import PatchWise
from ptqsr.quantizers import SelectedQuantizer

from .conftest import Run

pytestmark = pytest.mark.usefixtures("one_thread")


def tuning_in(folder: Path) -> list[str]:
    """The arguments of a run that works but for its teacher."""
    return [
        *("finetune", "--weights", f"{folder / 'tiny.safetensors'}"),
        *("--images", f"{folder / 'pictures'}", "-o", f"{folder / 'run'}", "--steps", "2"),
        *("--batch-size", "2", "--patch-size", "8", "--validation-images", "1"),
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, pictures, an 8-bit run `teacher`, and `mixed.safetensors`.

    The latter is a checkpoint that chooses 3 or 8 bits by the picture.
    """
    folder = tmp_path_factory.mktemp("cadyq")
    save_file(tiny_edsr().state_dict(), folder / "tiny.safetensors")
    for number in range(2):
        write_photograph(folder / "pictures" / f"{number}.png", 30, 56, number)
    for arguments in (
        ["--method", "pams", "--bits", "8", "-o", folder / "teacher"],
        [
            *("--method", "cadyq", "--teacher", folder / "teacher", "--candidates", "3,8"),
            *("-o", folder / "chosen", "--json", folder / "f.json"),
        ],
    ):
        result = CliRunner().invoke(app, [*tuning_in(folder), *map(str, arguments)])
        assert result.exit_code == 0, result.output
    figures = json.loads((folder / "f.json").read_text())
    assert figures["candidates"] == [3, 8] and figures["fqr"] == 8
    assert (figures["weight_bits"], figures["act_bits"]) == (8, 8)
    network = ptqsr.load(figures["checkpoint"])
    for quantizer in network.modules():
        if isinstance(quantizer, SelectedQuantizer):
            quantizer.weight.zero_()
            quantizer.weight[1, :2] = 0.2
            quantizer.bias.copy_(torch.tensor([0.2 * 68, 0.0]))
    ptqsr.save(network, folder / "mixed.safetensors")
    return folder


@pytest.fixture
def tuned(made: Path) -> Path:
    return made / "mixed.safetensors"


@pytest.mark.parametrize("deploy", [[], ["--deploy"]], ids=["simulated", "deployed"])
def test_from_training_to_pictures(
    run: Run, tuned: Path, pictures: Path, out: Path, deploy: list[str]
) -> None:
    options = ["--patches", 8, "--patch-overlap", 2, "--bit-map", out / "bits.png", *deploy]
    result = run("evaluate", tuned, "--data", pictures, *options, "--json", "-")
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)
    assert 3 < record["fqr"] < 8
    assert record["fqr"] == pytest.approx(
        sum(record["layer_bits"].values()) / len(record["layer_bits"])
    )
    network = ptqsr.load(tuned)
    by_patches = PatchWise(network, patch=8, overlap=2)
    # All convolutions of the body are alike, 8 bits times 8 at most.
    body = [layer for layer in cost(network).layers if layer.quantized]
    spent = cost(network).bitops - sum(layer.bitops for layer in body) * (1 - record["fqr"] / 8)
    assert record["bitops"] == pytest.approx(spent * by_patches.computed(540, 960))
    assert record["patches"] == {"size": 8, "overlap": 2}
    drawn = Image.open(out / "bits.png").convert("RGB")
    assert drawn.width >= 480 and len(drawn.getcolors(1 << 20) or ()) > 10
    whole = ["upscale", pictures, out / "whole", "-c", tuned, *deploy]
    assert run(*whole).exit_code == 0 and run(*whole, "--overwrite", "--tile", 8).exit_code == 0
    enlarged = [*("upscale", pictures, out / "made", "-c", tuned), *deploy]
    result = run(*enlarged, "--patches", 8, "--patch-overlap", 4, "--json", "-")
    assert json.loads(result.stdout)[0]["patches"] == [8, 4]
    assert result.exit_code == 0, result.output
    assert Image.open(out / "made" / "0.png").size == (112, 60)


def test_report(run: Run, made: Path, tuned: Path, pictures: Path, out: Path) -> None:
    arguments = ["report", tuned, "--weights", made / "tiny.safetensors", "--data", pictures]
    few = ["--no-latency", "--crops", 1, "-o", out / "r.html", "--json", out / "r.json"]
    result = run(*arguments, "--patches", 8, "--patch-overlap", 2, *few)
    assert result.exit_code == 0, result.output
    (record,) = json.loads((out / "r.json").read_text())["networks"]
    assert record["recipe"] == "cadyq, W8A3/8" and 3 < record["fqr"] < 8
    patches = PatchWise(ptqsr.load(tuned), patch=8, overlap=2)
    count = len(patches.starts(15)) * len(patches.starts(28))
    assert (out / "r.html").read_text().count('class="patch"') == 2 * count


def test_the_whole_picture_chooses_once(run: Run, tuned: Path, pictures: Path) -> None:
    (record,) = json.loads(run("evaluate", tuned, "--data", pictures, "--json", "-").stdout)
    assert all(bits in (3, 5.5, 8) for bits in record["layer_bits"].values())
    shown = json.loads(run("info", tuned, "--json", "-").stdout)
    remarks = [row["remark"] for row in shown["layers"] if row["how"] == "int8 uniform"]
    assert len(remarks) == 4 and "every sample chooses 3 or 8 bits" in remarks[0]
    assert shown["not_traced"] is None
    assert any(row["layer"] == "gradient of x" for row in shown["layers"])


def test_bad_input(refused: Run, made: Path, pictures: Path, weights: Path, out: Path) -> None:
    tuning, teacher = tuning_in(made), made / "teacher"
    cadyq = [*tuning, "--method", "cadyq"]
    taught = [*cadyq, "--teacher", teacher]
    (out / "broken").mkdir()
    (out / "broken" / "0.png").write_bytes(b"no picture")
    unread = ["--images", out / "broken"]
    for arguments, message in (
        (cadyq, "then name it: --teacher RUN"),
        ([*cadyq, "--teacher", out / "gone", *unread], "gone: holds no training run"),
        ([*taught, "--bits", 4], "--bits: cadyq chooses the bits of features; name --candidates"),
        ([*taught, "--act-bits", 4], "--act-bits: cadyq chooses"),
        ([*taught, "--candidates", "4;8"], "give bit-widths with commas"),
        ([*taught, "--candidates", "8"], "give two or more"),
        ([*taught, "--choose-by", "me"], "choose both or layer or patch"),
        ([*taught, "--placement", "paper"], "cadyq has no such form"),
        ([*taught, "--exclude", "body.0.*"], "the teacher was made with exclude = "),
        ([*tuning, "--teacher", teacher], "--teacher: is for --method cadyq, not pams"),
        ([*tuning, "--bit-loss-weight", 1], "--bit-loss-weight: is for --method cadyq, not pams"),
        ([*tuning, "--weights-follow-bits"], "--weights-follow-bits: is for --method cadyq"),
        ([*taught, "--bit-loss-growth", -1], "bit_loss_growth is -1.0"),
        ([*taught, "--init-batches", 3], "--init-batches: is for --method pams, odm, dorefa"),
    ):
        assert message in refused(*arguments), arguments
    assert not (made / "run").exists()
    measure = ["evaluate", weights, "--data", pictures]
    for arguments, message in (
        ([*measure, "--patches", 4], "at least 8 input pixels"),
        ([*measure, "--patch-overlap", 4], "--patch-overlap: is for --patches"),
        ([*measure, "--patches", 8, "--patch-overlap", 5], "from 0 to half"),
        ([*measure, "--bit-map", out / "b.png"], "--bit-map: give one network alone"),
        ([*measure, "--bit-map", out / "b.txt"], "pictures are written as"),
        (
            ["upscale", pictures, out / "m", "-c", weights, "--patches", 8, "--tile", 8],
            "--patches excludes --tile",
        ),
    ):
        assert message in refused(*arguments), arguments
