"""`ptqsr export`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Run


def test_a_checkpoint(run: Run, checkpoint: Path, out: Path) -> None:
    """What it prints is what it found; the file says where it comes from."""
    torch = pytest.importorskip("torch")
    target, figures = out / "q.pt2", out / "q.json"
    result = run("export", checkpoint, target, "--json", figures)
    assert result.exit_code == 0, result.output
    found = json.loads(figures.read_text())
    assert found["network"] == str(checkpoint) and found["format"] == "pt2"
    assert [(c["batch"], c["height"], c["width"]) for c in found["checks"]] == [
        (2, 40, 56),
        (1, 71, 106),
    ]
    assert f"{found['checks'][1]['psnr']:.1f} dB" in result.stdout
    extra = {"ptqsr.json": ""}
    torch.export.load(target, extra_files=extra)
    provenance = json.loads(json.loads(extra["ptqsr.json"])["provenance"])
    assert provenance["source"] == checkpoint.name and provenance["num_images"] == 2


def test_a_float_network_as_onnx(run: Run, weights: Path, pictures: Path, out: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason='needs pip install "ptqsr[onnx]"')
    target = out / "anything"
    result = run("export", weights, target, "--format", "onnx", "--json", "-")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["bytes"] == target.stat().st_size and not found["integer"]
    assert all(check["psnr"] > 100 for check in found["checks"])


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("q.bin", (), "ends in neither .onnx nor .pt2"),
        ("q.pt2", ("--format", "xml"), "format 'xml'"),
        ("q.onnx", ("--images", "nowhere"), "nowhere"),
        ("none/q.pt2", (), "there is no folder"),
        ("q.onnx", ("--results", "int4"), "results 'int4'"),
    ],
)
def test_what_is_refused(
    refused: Callable[..., str],
    weights: Path,
    out: Path,
    name: str,
    options: tuple[object, ...],
    reason: str,
) -> None:
    assert reason in refused("export", weights, out / name, *options)
    assert not any(out.iterdir())


def test_without_the_extra(
    refused: Callable[..., str], weights: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqsr.exporting.runtimes.find_spec", lambda name: None)
    line = refused("export", weights, out / "q.onnx")
    assert 'pip install "ptqsr[onnx]"' in line and not any(out.iterdir())
