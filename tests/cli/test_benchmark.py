"""`ptqsr benchmark`: figures that are well formed, and mistakes that end in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import ptqsr
from ptqsr.benchmarking import Record, Task, measure
from ptqsr.errors import PtqsrError

from .conftest import Run

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = ("--size", "16x16", "--rounds", 3)
Refused = Callable[..., str]


def test_a_checkpoint_in_its_forms(run: Run, checkpoint: Path, out: Path) -> None:
    result = run("benchmark", checkpoint, *QUICK, "--no-memory", "--json", out / "b.json")
    assert result.exit_code == 0 and result.stderr == ""
    figures = json.loads((out / "b.json").read_text())
    assert figures["machine"]["torch"] == torch.__version__ and figures["rounds"] == 3
    records = {record["candidate"]: record for record in figures["records"]}
    assert list(records) == ["float32", "fake-quantized", "deployed"]
    for name in ("float32", "fake-quantized", "deployed"):
        record = records[name]
        assert record["network"] == str(checkpoint)
        assert (record["height"], record["width"]) == (16, 16)
        assert (record["batch"], record["threads"]) == (1, 1)
        timing = record["timing"]
        assert 0 < timing["low_ms"] <= timing["median_ms"] <= timing["high_ms"]
        assert len(timing["rounds_ms"]) == 3
        assert record["peak_bytes"] is None and record["memory_unavailable"] == "not asked for"
    assert records["float32"]["timing"]["ratio"] == 1


def test_deployed_is_what_deploy_makes(
    run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def deploy(network: torch.nn.Module, device: str) -> torch.nn.Module:
        assert device == "cpu"
        network.register_forward_hook(lambda _, x, y: shapes.append((x[0].shape, y.shape)))
        return network

    monkeypatch.setattr(ptqsr, "deploy", deploy)
    options = ("--batch", 2, "--no-memory", "--json", "-")
    result = run("benchmark", checkpoint, *QUICK, *options)
    assert result.exit_code == 0 and "not available" not in result.stderr
    records = json.loads(result.stdout)["records"]
    assert records[2]["candidate"] == "deployed" and records[2]["timing"]["ratio"] > 0
    assert shapes == [((2, 3, 16, 16), (2, 3, 32, 32))] * 4  # 3 rounds after one to warm up


def test_deploy_says_why_it_cannot(
    run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deploy(network: torch.nn.Module, device: str) -> torch.nn.Module:
        raise PtqsrError("layer body.0.body.0: has no integer form")

    monkeypatch.setattr(ptqsr, "deploy", deploy)
    result = run("benchmark", checkpoint, *QUICK, "--no-memory")
    assert "deployed: not available (layer body.0.body.0: has no integer form)" in result.stdout


def test_float_networks_and_sizes(run: Run, weights: Path) -> None:
    sizes = ("--size", "16x24", "--size", "8x8", "--rounds", 3, "--no-memory")
    result = run("benchmark", weights, "idn_x2", *sizes, "--json", "-")
    assert result.exit_code == 0
    assert f"{weights}: a float network" in result.stderr and "calibrate" in result.stderr
    records = json.loads(result.stdout)["records"]
    found = [(r["network"], r["candidate"], r["height"], r["width"]) for r in records]
    assert found == [
        (name, "float32", *size) for name in (str(weights), "idn_x2") for size in ((16, 24), (8, 8))
    ]


def test_threads_are_put_back(run: Run, weights: Path) -> None:
    before = torch.get_num_threads()
    assert run("benchmark", weights, *QUICK, "--no-memory", "--threads", "1,1").exit_code == 0
    assert torch.get_num_threads() == before


def test_only_layers_and_memory(run: Run, checkpoint: Path, out: Path) -> None:
    options = ("--only", "deployed", "--layers", "--json", out / "b.json")
    result = run("benchmark", checkpoint, *QUICK, *options)
    assert result.exit_code == 0 and result.stderr == ""
    assert "deployed, step by step" in result.stdout and "TOP/s" in result.stdout
    figures = json.loads((out / "b.json").read_text())
    (record,) = figures["records"]
    assert record["candidate"] == "deployed"
    assert 0 < record["peak_bytes"] < 1 << 30, record["memory_unavailable"]
    found = {(row["candidate"], row["operation"]) for row in figures["layers"]}
    assert {("float32", "conv2d"), ("deployed", "ptqsr.subset_conv2d")} <= found
    assert figures["gpu"] is None and figures["machine"].keys() >= {"cpu", "commit"}


def test_on_a_gpu(
    run: Run, refused: Refused, checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command makes of a GPU's records, its three sizes and its chart."""
    pytest.importorskip("matplotlib", reason='needs pip install "ptqsr[chart]"')
    asked = []

    def measure_on_gpu(task: Task, **options: Any) -> list[Record]:
        asked.append((task.device, task.height, task.width, task.batch, options["only"]))
        record = measure(replace(task, device="cpu"), [1], rounds=3, with_memory=False)[0]
        found = replace(record, device=task.device, agreement_db=51.25, peak_bytes=3 << 20)
        return [found, replace(found, candidate="tensor", timing=None, unavailable="wrong")]

    monkeypatch.setattr("ptqsr.cli.benchmark.use_device", lambda name: torch.device(name))
    monkeypatch.setattr("ptqsr.cli.benchmark.measure_on_gpu", measure_on_gpu)
    monkeypatch.setattr("ptqsr.cli.benchmark.gpu_state", lambda name: {"name": f"T4 {name}"})
    monkeypatch.setattr("ptqsr.cli.benchmark.GPU_SIZES", ("8x8", "8x16"))
    files = ("--json", out / "b.json", "--chart", out / "chart.png")
    job = ("benchmark", checkpoint, "--device", "cuda:1", "--rounds", 3)
    result = run(*job, "--batch", 2, "--only", "float32", *files)
    assert result.exit_code == 0, result.output
    assert asked == [("cuda:1", 8, size, 2, ["float32"]) for size in (8, 16)]
    assert "51.2 dB" in result.stdout and "3.0" in result.stdout and "threads" not in result.stdout
    assert "tensor: not available (wrong)" in result.stdout
    figures = json.loads((out / "b.json").read_text())
    assert figures["device"] == "cuda:1" and figures["gpu"] == {"name": "T4 cuda:1"}
    assert [record["agreement_db"] for record in figures["records"]] == [51.25] * 4
    assert (out / "chart.png").exists()
    assert "--peers: is for --device cpu" in refused(*job, "--peers")
    assert "--threads: is for --device cpu" in refused(*job, "--threads", "1,1")
    assert "choose of float32; float32, TF32; float16;" in refused(*job, "--only", "int8")


@pytest.mark.gpu
def test_on_a_real_gpu(run: Run, checkpoint: Path, out: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    options = ("--only", "float32", "--only", "float16", "--only", "deployed", "--layers")
    job = ("benchmark", checkpoint, "--device", "cuda", "--size", "64x96", "--rounds", 3)
    result = run(*job, *options, "--json", out / "b.json")
    assert result.exit_code == 0, result.output
    figures = json.loads((out / "b.json").read_text())
    assert len(figures["records"]) == 3 and all(r["timing"] for r in figures["records"])
    assert figures["gpu"]["driver_version"] and figures["layers"]


def test_chart(run: Run, checkpoint: Path, out: Path) -> None:
    pytest.importorskip("matplotlib", reason='needs pip install "ptqsr[chart]"')
    path = out / "chart.png"
    result = run("benchmark", checkpoint, *QUICK, "--no-memory", "--chart", path)
    assert result.exit_code == 0, result.stderr
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG" and min(picture.size) > 100
    assert {p.name for p in out.iterdir()} == {"chart.png", "q.safetensors"}


def test_chart_without_matplotlib(
    refused: Refused, weights: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqsr.benchmarking.chart.find_spec", lambda name: None)
    monkeypatch.setattr("ptqsr.cli.benchmark.measure", None)  # before any work
    line = refused("benchmark", weights, *QUICK, "--chart", out / "chart.png")
    assert 'pip install "ptqsr[chart]"' in line


def test_peers_that_are_missing_are_named(
    run: Run, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqsr.benchmarking.peers.find_spec", lambda name: None)
    result = run("benchmark", weights, *QUICK, "--no-memory", "--peers", "--json", "-")
    assert result.exit_code == 0
    records = {record["candidate"]: record for record in json.loads(result.stdout)["records"]}
    assert len(records) == 8 and records["float32"]["timing"]
    assert "onnxruntime" in records["ONNX Runtime int8"]["unavailable"]
    for name in ("ONNX Runtime float32", "OpenVINO int8", "OpenVINO int8, every layer"):
        assert 'pip install "ptqsr[peers]"' in records[name]["unavailable"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--size", "180"), "--size 180: give height x width"),
        (("--size", "0x5"), "--size 0x5"),
        (("--size", "-3x5"), "--size -3x5"),
        (("--size", "20000x5"), "16384"),
        (("--threads", "0"), "--threads 0: must be 1 to"),
        (("--threads", "9999"), "the cores there are"),
        (("--threads", "1,"), "--threads 1,: give numbers"),
        (("--device", "cuda"), "--device cuda"),
        (("--device", "gpu"), "--device gpu: choose cpu, cuda"),
        (("--only", "float16"), "--only float16: choose of float32; fake-quantized; deployed"),
        (("--rounds", 2), "--rounds 2"),
        (("--batch", 0), "--batch 0"),
        (("--chart", "chart.jpg"), "chart.jpg: a chart is a .png"),
        (("--chart", "nowhere/chart.png"), "nowhere"),
        (("--json", "nowhere/b.json"), "nowhere"),
        (("--scale", 3), "scale"),
    ],
)
def test_bad_options(refused: Refused, weights: Path, options: tuple[Any, ...], words: str) -> None:
    assert words in refused("benchmark", weights, *options)


def test_networks_that_are_not_there(refused: Refused, tmp_path: Path) -> None:
    assert f"{tmp_path / 'gone.pt'}: no such file" in refused("benchmark", tmp_path / "gone.pt")
    assert "nonsense: no such file, nor bundled" in refused("benchmark", "nonsense")
    assert "is for scale 2, not 4" in refused("benchmark", "rdn_x2", "--scale", 4)
