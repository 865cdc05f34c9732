"""`ptqsr export`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Run


def test_a_checkpoint(run: Run, checkpoint: Path, out: Path) -> None:
    """What it prints is what it found; the file says where it comes from."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason='needs pip install "ptqsr[onnx]"')
    import onnx

    target, figures = out / "anything", out / "q.json"
    result = run("export", checkpoint, target, "--format", "onnx", "--json", figures)
    assert result.exit_code == 0, result.output
    found = json.loads(figures.read_text())
    assert found["network"] == str(checkpoint) and found["format"] == "onnx"
    assert found["bytes"] == target.stat().st_size and not found["integer"]  # DFSQ
    assert [(c["batch"], c["height"], c["width"]) for c in found["checks"]] == [
        (2, 40, 56),
        (1, 71, 106),
    ]
    assert f"{found['checks'][1]['psnr']:.1f} dB" in result.stdout
    said = {each.key: each.value for each in onnx.load(target).metadata_props}
    provenance = json.loads(said["provenance"])
    assert provenance["source"] == checkpoint.name and provenance["num_images"] == 2


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("q.bin", (), "ends in neither .onnx nor .pt2"),
        ("q.pt2", ("--format", "xml"), "format 'xml'"),
        ("q.onnx", ("--images", "nowhere"), "nowhere"),
        ("none/q.pt2", (), "there is no folder"),
        ("q.onnx", ("--results", "int4"), "results 'int4'"),
        ("q.pt2", ("--images", "."), "--images: is for results in 8 bits"),
        ("q.onnx", ("--images", ".", "--results", "float"), "--images: is for results in 8 bits"),
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
