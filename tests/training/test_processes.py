"""Two processes (as torchrun starts them, gloo) train as one does; killed runs go on."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import write_photograph
from safetensors.torch import load_file, save_file
from several import start, torchrun
from torch import nn

from ptqsr import PtqsrError, models
from ptqsr.cli.app import app
from ptqsr.training import processes

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = ("pams", "odm", "cadyq", "tflite")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(3):
        write_photograph(tmp_path / "pictures" / f"{number}.png", 32, 36, number)
    return tmp_path / "pictures"


@pytest.fixture
def common(pictures: Path) -> list[str]:
    """What all runs have in common."""
    return [
        *("--images", f"{pictures}", "--validation-images", "1"),
        *("--batch-size", "4", "--patch-size", "8", "--learning-rate", "1e-3"),
        *("--validate-every", "1", "--precision", "fp32"),
    ]


@pytest.fixture
def job(common: list[str], tmp_path: Path) -> list[str]:
    torch.manual_seed(0)
    network = models.build("edsr", scale=2, weights=None, blocks=1, width=8)
    save_file(network.state_dict(), tmp_path / "tiny.safetensors")
    return ["finetune", "--weights", f"{tmp_path / 'tiny.safetensors'}", *common, "--steps", "2"]


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """What is trained, not what is made of it: a hair's breadth may be another level."""
    state = torch.load(run / "state.pt", weights_only=True)
    return {name: t for name, t in state["network"].items() if t.is_floating_point()}


def test_two_processes_are_as_one(job: list[str], common: list[str], tmp_path: Path) -> None:
    """A step, and resumed another; by `train`, too."""
    jobs = {method: [*job, "--method", method] for method in METHODS}
    jobs["odm"] += ["--variance-weight", "0.1"]
    jobs["cadyq"] += ["--teacher", f"{tmp_path / 'one' / 'teacher'}"]
    small = ("--scale", "2", "--set", "blocks=1", "--set", "width=8")
    jobs["train"] = ["train", *small, *common, "--warmup", "0", "--steps", "2"]
    teacher = [*job, "--bits", "8", "-o", f"{tmp_path / 'one' / 'teacher'}"]
    app(teacher, standalone_mode=False)

    def parts(run: str) -> list[list[str]]:
        every = [[*options, "-o", f"{tmp_path / run / name}"] for name, options in jobs.items()]
        return [part for all in every for part in ([*all, "--steps", "1"], [*all, "--resume"])]

    for part in parts("one"):
        app(part, standalone_mode=False)
    started = torchrun(parts("two"), tmp_path / "said.txt")
    for process in started:
        process.join(100)
        process.kill()
    said = [(tmp_path / f"said.{number}").read_text() for number in (0, 1)]
    assert [process.exitcode for process in started] == [0, 0], said
    assert said[0].count("step 2: loss") == len(jobs) and not said[1]  # one of the two speaks
    for name in jobs:
        one, two = (tmp_path / run / name for run in ("one", "two"))
        assert [record["step"] for record in records(two)] == [1, 2]
        for mine, theirs in zip(records(one), records(two), strict=True):
            assert mine.keys() == theirs.keys()
            for figure in mine.keys() - {"seconds"}:
                assert theirs[figure] == pytest.approx(mine[figure], rel=1e-3), (name, figure)
        mine_too, theirs_too = weights(one), weights(two)
        assert mine_too.keys() == theirs_too.keys()
        apart = [float((mine_too[n] - theirs_too[n]).abs().mean()) for n in mine_too]
        assert max(apart) < 2e-5, name  # a step moves a weight by 1e-3


def test_killed_at_any_moment(job: list[str], tmp_path: Path) -> None:
    """SIGKILL, twice, leaves the same weights and log as a run without."""
    options = [*job, "--method", "odm", "--steps", "16", "--variance-weight", "0.1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    app([*options, "-o", f"{whole}"], standalone_mode=False)
    log, kills = parts / "log.jsonl", 0
    for lines in (3, 8):
        again = [*options, "-o", f"{parts}", *(["--resume"] * (kills > 0))]
        process = start([again], tmp_path / "said.txt")
        while process.is_alive():
            if log.exists() and log.read_bytes().count(b"\n") >= lines:
                process.kill()
                break
            time.sleep(0.001)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills > 0 and len(records(parts)) < 16
    app([*options, "-o", f"{parts}", "--resume"], standalone_mode=False)
    one, two = (load_file(run / "quantized.safetensors") for run in (whole, parts))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    logs = [[{**line, "seconds": 0} for line in records(run)] for run in (whole, parts)]
    assert logs[0] == logs[1]


def test_who_starts_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with (
        pytest.raises(PtqsrError, match=r"torchrun did not start this .* or unset WORLD_SIZE"),
        processes.joined("cpu"),
    ):
        pass
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    with pytest.raises(PtqsrError, match="cuda:1: with torchrun"), processes.joined("cuda:1"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "1")
    with processes.joined("cuda:1") as device:
        assert device == "cuda:1"


def test_processes_that_do_not_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one has read an older state than another, nobody goes on."""
    others = {torch.distributed.ReduceOp.MIN: min, torch.distributed.ReduceOp.MAX: max}

    def reduce(tensor: torch.Tensor, operation: Any) -> None:
        tensor.fill_(others[operation](float(tensor), 4.0))  # the other one's is 4

    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    processes.check_agreed(4, "the step", torch.device("cpu"))
    with pytest.raises(PtqsrError, match="the step is 2 in one process and 4 in another"):
        processes.check_agreed(2, "the step", torch.device("cpu"))
    processes.check_share(6)
    with pytest.raises(PtqsrError, match="batch_size is 5; 2 processes"):
        processes.check_share(5)


def test_what_processes_do_not_share(monkeypatch: pytest.MonkeyPatch) -> None:
    step = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    assert processes.parallel(step, torch.device("cpu")) is step
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(PtqsrError, match="batch normalisation, whose statistics"):
        processes.parallel(step, torch.device("cpu"))


def test_shares_are_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = torch.arange(12).view(6, 2)
    assert torch.equal(processes.share(batch), batch)
    monkeypatch.setattr(processes, "count", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        shares.append(processes.share(batch))
    assert torch.equal(torch.cat(shares), batch) and {len(share) for share in shares} == {2}


def test_all_take_the_first_ones_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place, in whatever layout they lie."""

    def broadcast(tensor: torch.Tensor, source: int) -> None:
        assert source == 0 and tensor.is_contiguous()
        tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape))

    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
    plain, other = nn.Parameter(torch.zeros(3)), torch.zeros(1, 2, 3, 4)
    other = other.contiguous(memory_format=torch.channels_last)
    processes.as_first([plain, other])
    assert plain.tolist() == [0, 1, 2] and other.flatten().tolist() == list(range(24))
