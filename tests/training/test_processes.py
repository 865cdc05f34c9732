"""Two processes (torchrun, gloo) train as one does with the whole batch; killed runs go on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_edsr, write_photograph
from safetensors.torch import load_file, save_file
from torch import nn

import ptqsr
from ptqsr import PtqsrError
from ptqsr.cli.app import app
from ptqsr.training import processes

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = ("pams", "odm", "cadyq", "tflite")
SEVERAL = """
import json, sys
import torch.distributed
from ptqsr.cli.app import app
torch.distributed.init_process_group("gloo")
for arguments in json.loads(sys.argv[1]):
    app(arguments, standalone_mode=False)
"""


@pytest.fixture
def job(tmp_path: Path) -> list[str]:
    """What all runs have in common."""
    for number in range(3):
        write_photograph(tmp_path / "pictures" / f"{number}.png", 40, 44, number)
    save_file(tiny_edsr().state_dict(), tmp_path / "tiny.safetensors")
    return [
        *("finetune", "--weights", f"{tmp_path / 'tiny.safetensors'}"),
        *("--images", f"{tmp_path / 'pictures'}", "--validation-images", "1"),
        *("--steps", "6", "--batch-size", "4", "--patch-size", "8", "--learning-rate", "1e-3"),
        *("--validate-every", "2", "--precision", "fp32"),
    ]


def launch(*arguments: str) -> subprocess.Popen[str]:
    root = Path(ptqsr.__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, text=True, stdout=pipe, stderr=pipe
    )


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_two_processes_are_as_one(job: list[str], tmp_path: Path) -> None:
    jobs = {method: [*job, "--method", method] for method in METHODS}
    jobs["odm"] += ["--variance-weight", "0.1"]
    teacher = f"{tmp_path / 'teacher'}"
    app([*job, "--bits", "8", "-o", teacher], standalone_mode=False)
    jobs["cadyq"] += ["--teacher", teacher]
    for method, options in jobs.items():
        app([*options, "-o", f"{tmp_path / 'one' / method}"], standalone_mode=False)
    (tmp_path / "several.py").write_text(SEVERAL)
    both = [[*options, "-o", f"{tmp_path / 'two' / method}"] for method, options in jobs.items()]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = launch(
        *("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port),
        *(f"{tmp_path / 'several.py'}", json.dumps(both)),
    )
    try:
        out, err = process.communicate(timeout=200)
    finally:
        process.terminate()  # which ends its workers too
    assert process.returncode == 0, out + err
    assert err.count("step 6: loss") == len(METHODS)  # one of the two speaks
    for method in METHODS:
        one, two = (records(tmp_path / run / method) for run in ("one", "two"))
        assert [record["step"] for record in two] == [2, 4, 6]
        for mine, theirs in zip(one, two, strict=True):
            assert mine.keys() == theirs.keys()
            for name in mine.keys() - {"seconds"}:
                assert theirs[name] == pytest.approx(mine[name], rel=1e-4), (method, name)


def test_killed_at_any_moment(job: list[str], tmp_path: Path) -> None:
    """SIGKILL, twice, leaves the same weights and log as a run without."""
    options = [*job, "--method", "odm", "--steps", "40", "--variance-weight", "0.1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    app([*options, "-o", f"{whole}"], standalone_mode=False)
    log, kills = parts / "log.jsonl", 0
    for lines in (3, 9):
        process = launch("-m", "ptqsr", *options, "-o", f"{parts}", *(["--resume"] * (kills > 0)))
        while process.poll() is None:
            if log.exists() and log.read_bytes().count(b"\n") >= lines:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.001)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills > 0 and len(records(parts)) < 20
    app([*options, "-o", f"{parts}", "--resume"], standalone_mode=False)
    one, two = (load_file(run / "quantized.safetensors") for run in (whole, parts))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    logs = [[{**line, "seconds": 0} for line in records(run)] for run in (whole, parts)]
    assert logs[0] == logs[1]


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
