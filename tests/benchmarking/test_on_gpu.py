"""The benchmark of GPUs: on the CPU with a GPU's clock and memory made up, and on a GPU."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import photograph

import ptqsr
from ptqsr import native
from ptqsr.benchmarking import Task, gpu, gpu_run, measure_on_gpu, steps, task_of
from ptqsr.benchmarking.run import CANDIDATES, Candidate
from ptqsr.models import SRNetwork

pytestmark = pytest.mark.usefixtures("one_thread")
FLOATS = ["float32", "float32, TF32", "float16", "float16, CUDA graph", "float16, torch.compile"]


@pytest.fixture
def task(tiny: SRNetwork, tmp_path: Path) -> Task:
    """A checkpoint's."""
    config = ptqsr.Config(bits=4, selector="optimal")
    quantized = ptqsr.calibrate(tiny, [photograph(24, 30)], config)
    ptqsr.save(quantized, tmp_path / "q.safetensors")
    return task_of(quantized, tmp_path / "q.safetensors", 20, 24)


class Event:
    """What torch.cuda.Event does, by the CPU's clock."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Event) -> float:
        return (end.time - self.time) * 1e3


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A GPU of compute capability 7.5 whose work the CPU does."""
    for name, value in {
        "Event": Event,
        "device": lambda device: nullcontext(),
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "memory_allocated": lambda device: 100,
        "max_memory_allocated": lambda device: 1100,
        "reset_peak_memory_stats": lambda device: None,
        "get_device_capability": lambda device: (7, 5),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    return monkeypatch


def test_records(task: Task, made_up: pytest.MonkeyPatch) -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32
    shown: list[tuple[str, int, int]] = []
    records = measure_on_gpu(task, rounds=3, progress=lambda *what: shown.append(what))
    assert (cudnn.benchmark, cudnn.allow_tf32) == before
    assert shown[0] == ("20x24: loading", 0, 7) and shown[-1] == ("20x24: rounds", 3, 3)
    found = {record.candidate: record for record in records}
    assert list(found)[:7] == [*FLOATS, "fake-quantized", "deployed"]
    assert found["float32, TF32"].unavailable == "compute capability 8.0 is the first with TF32"
    assert found["float16, CUDA graph"].unavailable  # there is no GPU, after all
    for name in ("float32", "float16", "float16, torch.compile", "fake-quantized", "deployed"):
        record = found[name]
        assert record.unavailable is None and record.timing and record.timing.median_ms > 0
        assert record.peak_bytes == 1000 and (record.height, record.width) == (20, 24)
    assert found["float32"].agreement_db is found["fake-quantized"].agreement_db is None
    assert 40 < found["float16"].agreement_db < 80
    assert 10 < found["deployed"].agreement_db < 80


def test_a_float_network_and_only(tiny: SRNetwork, task: Task, made_up: pytest.MonkeyPatch) -> None:
    floats = measure_on_gpu(task_of(tiny, None, 16, 16), rounds=3, with_memory=False)
    assert [record.candidate for record in floats][:5] == FLOATS
    assert floats[0].peak_bytes is None and floats[0].memory_unavailable == "not asked for"
    (one,) = measure_on_gpu(task, rounds=3, only=["deployed"])
    assert one.candidate == "deployed" and one.timing.ratio == 1 and one.agreement_db is None


def test_what_is_wrong_is_not_timed(task: Task, made_up: pytest.MonkeyPatch) -> None:
    """Another picture, NaN, too little memory: each says so, and the others are timed."""

    def shifted(task: Task) -> Any:
        run = gpu.float16(task)
        return lambda: run().roll(3, -1)

    def no_number(task: Task) -> Any:
        run = gpu.float16(task)
        return lambda: run() * float("nan")

    def large(task: Task) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    others = {"shifted": shifted, "no number": no_number, "large": large}
    made_up.setattr(
        gpu_run,
        "CANDIDATES",
        {
            "float32": gpu.CANDIDATES["float32"],
            **{name: Candidate(load, is_peer=False) for name, load in others.items()},
            "float16": gpu.CANDIDATES["float16"],
        },
    )
    found = {record.candidate: record for record in measure_on_gpu(task, rounds=3)}
    assert found["float32"].timing and found["float16"].timing
    assert all(found[name].timing is None for name in others)
    assert "dB from the output of float32" in found["shifted"].unavailable
    assert found["no number"].unavailable == "wrong: its output holds NaN or Inf"
    assert found["large"].unavailable.startswith("out of memory beside those above; try fewer")


def test_errors_of_ours_are_not_hidden(task: Task, made_up: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a mistake")

    made_up.setattr(gpu.ours, "deploy", broken)
    with pytest.raises(ValueError, match="a mistake"):
        measure_on_gpu(task, rounds=3)


def test_nothing_to_time(tiny: SRNetwork, made_up: pytest.MonkeyPatch) -> None:
    assert measure_on_gpu(task_of(tiny, None, 8, 8), rounds=3, only=["deployed"]) == []


def test_agreement() -> None:
    torch.manual_seed(0)
    y = torch.randn(10_000)
    assert gpu_run.agreement(y, y) == 200
    assert gpu_run.agreement(y + 0.1 * torch.randn(10_000), y) == pytest.approx(20, abs=0.5)
    assert gpu_run.agreement(y * float("nan"), y) == -200


def test_state(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(
        name="Tesla T4", major=7, minor=5, total_memory=1, multi_processor_count=40, uuid="ab-c"
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    def nvidia_smi(command: list[str], **_: object) -> Any:
        assert command[-2:] == ["-i", "GPU-ab-c"]
        return SimpleNamespace(stdout="550.54.15, 585 MHz, 5000 MHz, 1590 MHz, 5001 MHz, 70.00 W\n")

    monkeypatch.setattr(subprocess, "run", nvidia_smi)
    state = gpu_run.gpu_state("cuda:0")
    assert state["name"] == "Tesla T4" and state["driver_version"] == "550.54.15"
    assert state["clocks.sm"] == "585 MHz" and state["power.limit"] == "70.00 W"

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "nvidia-smi")

    monkeypatch.setattr(subprocess, "run", missing)
    assert "nvidia-smi" in gpu_run.gpu_state("cuda:0")["nvidia-smi"]


def test_steps(task: Task) -> None:
    """On the CPU, by its clock: convolutions count their products."""
    rows = steps(task, "float32", CANDIDATES["float32"].load)
    assert sum(row.share for row in rows) == pytest.approx(1)
    body = next(row for row in rows if row.shape == "3x3 16->16 to 1x20x24")
    assert (body.operation, body.count) == ("conv2d", 5)
    products = 2 * 5 * 16 * 16 * 9 * 20 * 24
    assert body.tops == pytest.approx(products / body.ms / 1e9)
    size = 4 * 5 * (2 * 16 * 20 * 24 + 16 * 16 * 9 + 16)
    assert body.gigabytes_per_second == pytest.approx(size / body.ms / 1e6)
    assert all((row.tops is None) == (row.operation != "conv2d") for row in rows)
    rows = steps(task, "deployed", CANDIDATES["deployed"].load)
    ours = [row for row in rows if row.operation == "ptqsr.subset_conv2d"]
    assert sum(row.count for row in ours) == 4 and all(row.tops for row in ours)


# --- on a GPU ---


@pytest.fixture
def on_gpu(task: Task) -> Iterator[Task]:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if native.cuda() is None:
        pytest.skip("this build has no CUDA kernels")
    yield replace(task, device="cuda:0", height=96, width=128)


@pytest.mark.gpu
def test_every_candidate(on_gpu: Task) -> None:
    records = measure_on_gpu(on_gpu, rounds=5)
    old = torch.cuda.get_device_capability() < (8, 0)
    for record in records:
        if record.candidate == "float32, TF32" and old:
            continue
        if record.candidate in ("float16, torch.compile", "TensorRT float16"):
            continue  # they need Triton, a C compiler, a version that fits
        assert record.unavailable is None, record
        assert record.timing.median_ms > 0 and record.peak_bytes > 0
    assert json.dumps([record.to_json() for record in records])


@pytest.mark.gpu
def test_state_of_a_gpu(on_gpu: Task) -> None:
    state = gpu_run.gpu_state("cuda:0")
    assert state["name"] and state["driver_version"] and "MHz" in state["clocks.sm"]


@pytest.mark.gpu
@pytest.mark.parametrize("candidate", gpu.STEP_BY_STEP)
def test_steps_on_a_gpu(on_gpu: Task, candidate: str) -> None:
    rows = steps(on_gpu, candidate, gpu.STEP_BY_STEP[candidate])
    assert any(row.tops for row in rows) and all(row.ms > 0 for row in rows)
    assert np.isclose(sum(row.share for row in rows), 1)
