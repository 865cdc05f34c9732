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

import ptqsr
from ptqsr import models

METHODS = ("pams", "odm", "tflite")


@pytest.fixture
def job(tmp_path: Path) -> list[str]:
    """What all runs have in common."""
    for number in range(3):
        write_photograph(tmp_path / "pictures" / f"{number}.png", 40, 44, number)
    save_file(tiny_edsr().state_dict(), tmp_path / "tiny.safetensors")
    return [
        *("--weights", f"{tmp_path / 'tiny.safetensors'}", "--images", f"{tmp_path / 'pictures'}"),
        *("--steps", "6", "--batch-size", "4", "--patch-size", "8", "--validation-images", "1"),
        *("--validate-every", "2", "--precision", "fp32", "--learning-rate", "1e-3"),
    ]


def launch(arguments: list[str], processes: int = 1, **options: Any) -> subprocess.Popen[str]:
    module = ["-m", "ptqsr", "finetune", *arguments]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        module = [
            *("-m", "torch.distributed.run", "--nproc-per-node", f"{processes}"),
            *("--master-port", port, *module),
        ]
    root = Path(ptqsr.__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}"}
    return subprocess.Popen(
        [sys.executable, *module],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    return out + err


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_are_as_one(job: list[str], tmp_path: Path, method: str) -> None:
    options = [*job, "--method", method, *(["--variance-weight", "0.1"] if method == "odm" else [])]
    for processes, run in ((1, "one"), (2, "two")):
        said = finished(launch([*options, "-o", f"{tmp_path / run}"], processes))
        assert said.count("step 6: loss") == 1  # one of them speaks
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert [record["step"] for record in two] == [2, 4, 6]
    for mine, theirs in zip(one, two, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {"seconds"}:
            assert theirs[name] == pytest.approx(mine[name], rel=1e-4), name
    quantized = [ptqsr.load(tmp_path / run / "quantized.safetensors") for run in ("one", "two")]
    x = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        a, b = (network(x) for network in quantized)
    # A weight that lies on the border of two levels may fall on either side.
    assert (a - b).abs().mean() < 1e-3


def test_what_processes_do_not_share(job: list[str], tmp_path: Path) -> None:
    """Both say the same in one line, and none of them hangs."""
    torch.manual_seed(0)
    network = models.build("edsr", scale=2, weights=None, blocks=1, width=8, batch_norm=True)
    save_file(network.state_dict(), tmp_path / "bn.safetensors")
    weights = ["--weights", f"{tmp_path / 'bn.safetensors'}"]
    process = launch([*job, *weights, "-o", f"{tmp_path / 'run'}"], 2)
    _, err = process.communicate(timeout=240)
    assert process.returncode != 0
    assert "ptqsr: the network has batch normalisation, whose statistics" in err
    assert "Traceback" not in err.split("torch/distributed")[0]


def test_killed_at_any_moment(job: list[str], tmp_path: Path) -> None:
    """SIGKILL, again and again, gives the same weights as a run without."""
    options = [*job, "--method", "odm", "--steps", "40", "--variance-weight", "0.1"]
    finished(launch([*options, "-o", f"{tmp_path / 'whole'}"]))
    run, kills = tmp_path / "parts", 0
    seen = 0
    while kills < 3:
        resume = ["--resume"] if run.exists() else []
        process = launch([*options, "-o", f"{run}", *resume])
        log = run / "log.jsonl"
        while process.poll() is None:
            lines = log.read_text().count("\n") if log.exists() else 0
            if lines > seen + 3:
                os.kill(process.pid, signal.SIGKILL)
                seen = lines
                kills += 1
                break
            time.sleep(0.002)
        process.communicate()
        if process.returncode == 0:
            break
    finished(launch([*options, "-o", f"{run}", "--resume"]))
    assert kills > 0
    whole, parts = (load_file(d / "quantized.safetensors") for d in (tmp_path / "whole", run))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert [r["step"] for r in records(run)] == [r["step"] for r in records(tmp_path / "whole")]
