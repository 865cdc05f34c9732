"""A network and pictures so small that a command takes a second, and two ways to run one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_edsr, write_photograph
from safetensors.torch import save_file
from typer.testing import CliRunner

from ptqsr.cli.app import app

Run = Callable[..., Any]  # gives typer's Result
# Takes a quarter of the time of k-means.
OPTIMAL = ("--selector", "optimal")


def invoke(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def few_crops(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("ptqsr.cli.crops.HELD_OUT", 2)
    patch.setattr("ptqsr.cli.crops.TO_STOP", 2)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; what it wrote is in `.stdout` and `.stderr`."""
    few_crops(monkeypatch)
    return invoke


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Run a command that must fail: exit code 2, nothing on stdout; return the one line."""

    def invoke(*arguments: object) -> str:
        result = run(*arguments)
        lines = result.stderr.splitlines()
        assert result.exit_code == 2, result.output
        assert len(lines) == 1 and lines[0].startswith("ptqsr: "), result.stderr
        assert result.stdout == ""
        return lines[0]

    return invoke


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "ptqsr", *map(str, arguments)]
    given = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        # What runs the tests in the background ignores Ctrl-C, and children would.
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    }
    return subprocess.Popen(command, **(given | options))  # type: ignore[call-overload]


def write_weights(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tiny_edsr().state_dict(), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


def write_pictures(folder: Path) -> Path:
    for number in range(2):
        write_photograph(folder / f"{number}.png", 30, 56, number)
    return folder


def calibration(weights: Path, pictures: Path, made: Path) -> list[object]:
    return [
        *("calibrate", "--model", "edsr", "--weights", weights, "--images", pictures),
        *("--patch-size", 12, "--num-images", 2, "-o", made),
    ]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "in")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two pictures, 30x56."""
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder for what a command writes."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def job(weights: Path, pictures: Path, out: Path) -> list[object]:
    """The arguments of a calibration that works; later ones override them."""
    return calibration(weights, pictures, out / "q.safetensors")


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What `job` writes."""
    folder = tmp_path_factory.mktemp("calibrated")
    inputs = write_weights(folder), write_pictures(folder / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        few_crops(patch)
        assert invoke(*calibration(*inputs, folder / "q.safetensors")).exit_code == 0
    return (folder / "q.safetensors").read_bytes()


@pytest.fixture
def checkpoint(calibrated: bytes, out: Path) -> Path:
    (out / "q.safetensors").write_bytes(calibrated)
    return out / "q.safetensors"
