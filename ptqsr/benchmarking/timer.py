"""The one timer: interleaved rounds, medians, ratios round by round."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import which
from statistics import median, quantiles
from typing import Any

import torch

from ptqsr import native


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one candidate over all rounds; `ratio` is its time over the first's.

    `low` and `high` are quartiles, ratios are taken round by round. `cpu_ms` is the
    median processor time of all threads of the process: on one thread it holds still on a machine
    that others use too; on several it counts threads that wait busily.
    """

    name: str
    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    gigabytes_per_second: float | None
    cpu_ms: float
    rounds_ms: tuple[float, ...]

    def line(self, op: str, shape: str) -> str:
        speed = (
            "" if self.gigabytes_per_second is None else f"{self.gigabytes_per_second:8.1f} GB/s"
        )
        return (
            f"{op:<18} {shape:<16} {self.name:<22} {self.median_ms:9.3f} ms "
            f"[{self.low_ms:.3f}, {self.high_ms:.3f}] {speed:<13} "
            f"{self.ratio:8.2f} x [{self.ratio_low:.2f}, {self.ratio_high:.2f}]"
        )


def wall_seconds(run: Callable[[], object]) -> float:
    """Return how long a run takes that is done when it returns."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(
    candidates: dict[str, Callable[[], object]],
    *,
    rounds: int = 25,
    bytes_moved: int | None = None,
    progress: Callable[[int], None] = lambda rounds_done: None,
    seconds_of: Callable[[Callable[[], object]], float] = wall_seconds,
) -> list[Timing]:
    """Time the candidates in turn, every one once a round, after one warm-up round.

    Interleaved, since machines' clocks drift: a ratio is taken inside its round. `rounds` is at
    least 2, for quartiles; `bytes_moved` by one run gives GB/s. `seconds_of` runs and times one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    cpu: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            cpu_start = time.process_time()
            taken = seconds_of(run)
            cpu_end = time.process_time()
            if number:
                seconds[name].append(taken)
                cpu[name].append(cpu_end - cpu_start)
        progress(number)
    first = next(iter(seconds.values()), [])
    timings = []
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, first, strict=True)]
        low, middle, high = quantiles(times, n=4)
        ratio_low, _, ratio_high = quantiles(ratios, n=4)
        speed = None if bytes_moved is None else bytes_moved / middle / 1e9
        timings.append(
            Timing(
                name,
                middle * 1e3,
                low * 1e3,
                high * 1e3,
                median(ratios),
                ratio_low,
                ratio_high,
                speed,
                median(cpu[name]) * 1e3,
                tuple(round(second * 1e3, 4) for second in times),
            )
        )
    return timings


def machine() -> dict[str, Any]:
    """Return what a figure must be traced to: machine, versions, command."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = {line.split(":")[0].strip(): line.split(":", 1)[-1].strip() for line in lines}
        model = f"{names.get('model name')}, model {names.get('model')}"
    described = native.describe()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "instruction_set": described.cpu_instruction_set_used,
        "gpus": [gpu["name"] for gpu in described.gpus],
        "driver": described.cuda_driver,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "command": " ".join(sys.argv),
    }


def commit() -> str | None:
    """Return the commit that this code is from, if it is in a repository of its own."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or which("git") is None:
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def as_json(timings: list[Timing]) -> list[dict[str, Any]]:
    return [asdict(timing) for timing in timings]
