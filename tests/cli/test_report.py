"""`ptqsr report` on the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import tiny_edsr
from PIL import Image
from safetensors.torch import save_file

import ptqsr
from ptqsr import checkpoint as checkpoints
from ptqsr.evaluation import evaluate

from .conftest import Run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def shown(checkpoint: Path, pictures: Path, out: Path) -> list[object]:
    """The arguments of a report that works."""
    return [
        *("report", checkpoint, "--data", pictures, "-o", out / "r.html", "--no-latency"),
        *("--crops", 2, "--crop-size", 10),
    ]


def test_a_page(run: Run, shown: list[object], checkpoint: Path, pictures: Path, out: Path) -> None:
    result = run(*shown, "--json", "-")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    page = (out / "r.html").read_text()
    assert figures["bytes"] == len(page.encode()) and page.startswith("<!DOCTYPE html>")
    (record,) = figures["networks"]
    measured = evaluate(ptqsr.load(checkpoint), pictures)
    assert record["psnr"]["quantized"] == measured.psnr
    assert figures["pictures"] == "2 pictures in pictures"
    # The weights that the checkpoint was made from are found by what it says of itself.
    assert record["float_weights"].endswith("tiny.safetensors")
    assert run(*shown).exit_code == 0 and (out / "r.html").read_text() == page


def test_figures(run: Run, shown: list[object], out: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run(*shown, "--figures", out / "figures", "--json", "-")
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)["networks"]
    wanted = ["pictures-1.png", "pictures-2.png", "q/cost.png", "q/universal-set.png"]
    wanted += [f"q/layers/{layer['layer']}.png" for layer in record["layers"]]
    drawn = [path for path in (out / "figures").rglob("*") if path.is_file()]
    assert sorted(str(p.relative_to(out / "figures")) for p in drawn) == sorted(wanted)
    for path in drawn:
        assert min(Image.open(path).convert("RGB").size) > 150


def test_bad_input(
    run: Run,
    refused: Callable[..., str],
    shown: list[object],
    checkpoint: Path,
    weights: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strange = tiny_edsr()
    strange.get_submodule("head.0").weight.data += 1
    save_file(strange.state_dict(), out / "strange.safetensors")
    for arguments, message in (
        (["-o", out / "r.txt"], "r.txt: a report is a page; name one with .html"),
        (["-o", out / "gone" / "r.html"], "there is no folder"),
        (["--data", out / "gone"], "gone: no such folder"),
        (["--crops", 0], "--crops 0: must be at least 1"),
        (["--seed", -1], "--seed -1: must be"),
        (["--crop-size", 1], "too small to look into layers with"),
        (["--patches", 8], "--patches: is for networks whose layers choose their bits"),
        (["--weights", out / "strange.safetensors"], "was not made from"),
        (["--weights", out / "gone.pt"], "gone.pt: no such file"),
        (["--figures", weights], "is a file; name a folder"),
    ):
        assert message in refused(*shown, *arguments), arguments
    assert "is a checkpoint" not in refused("report", weights) and not (out / "r.html").exists()
    checkpoints.save(ptqsr.load(checkpoint), checkpoint, provenance={"weights": str(weights)})
    moved = out / "moved.safetensors"
    shutil.move(weights, moved)
    message = refused(*shown)
    assert "tiny.safetensors, which is not here" in message and "--weights FILE" in message
    assert run(*shown, "--weights", moved).exit_code == 0
    monkeypatch.setattr("ptqsr.reporting.figures.find_spec", lambda name: None)
    assert 'pip install "ptqsr[chart]"' in refused(*shown, "--figures", out / "f")


def test_a_checkpoint_that_says_nothing_of_its_weights(
    refused: Callable[..., str], checkpoint: Path, out: Path
) -> None:
    network = ptqsr.load(checkpoint)
    checkpoints.save(network, out / "plain.safetensors")
    # No weights of this shape are bundled, nor are those that are bundled these.
    message = refused("report", out / "plain.safetensors", "-o", out / "r.html")
    assert "plain.safetensors: needs its float network" in message and "--weights FILE" in message
    tuned = {"finetuned": {"weights": "of digest 0123456789abcdef"}}
    checkpoints.save(network, out / "tuned.safetensors", provenance=tuned)
    save_file(tiny_edsr().state_dict(), out / "tiny.safetensors")
    message = refused("report", out / "tuned.safetensors", "--weights", out / "tiny.safetensors")
    assert "its digest is another" in message


def test_other_weights_where_every_layer_is_quantized(
    run: Run, refused: Callable[..., str], job: list[object], weights: Path, out: Path
) -> None:
    assert run(*job, "--edges", 8, "--bits", 4).exit_code == 0
    save_file({n: -t for n, t in tiny_edsr().state_dict().items()}, out / "other.safetensors")
    message = refused("report", out / "q.safetensors", "--weights", out / "other.safetensors")
    assert "was not made from" in message and "head.0 differs" in message
