"""Candidates as CUDA graphs, timed in interleaved rounds by the package's timer."""

from __future__ import annotations

import math
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.gpu.table import Measured
from benchmarks.timer import compare

Run = Callable[[], object]

# A replay takes this long at least, beside which launching it and waiting for it are little.
SECONDS = 4e-3
CLOCKS = ("clocks.sm", "clocks.mem", "clocks.max.sm", "temperature.gpu", "power.draw")


@dataclass(frozen=True)
class Candidate:
    """Something to time. `runs` are the same work on tensors of their own, taken in turn, so that a
    cache does not hold what the next one reads; the other members are those of Measured."""

    name: str
    runs: Sequence[Run]
    work: float
    limit: str
    beside: tuple[str, ...] = ()
    is_ceiling: bool = False
    note: str = ""


def copies(bytes_read: int) -> int:
    """Return how many tensors of a size a cache cannot hold until their turn comes again."""
    cache: int = torch.cuda.get_device_properties().L2_cache_size
    return 1 + math.ceil(2 * cache / bytes_read)


def measure(candidates: Sequence[Candidate], rounds: int) -> list[Measured]:
    """Time candidates in interleaved rounds."""
    replays: dict[str, Run] = {}
    repeats: dict[str, int] = {}
    for candidate in candidates:
        turns = math.ceil(SECONDS / seconds_of(candidate.runs) / len(candidate.runs))
        repeats[candidate.name] = turns * len(candidate.runs)
        replays[candidate.name] = captured(candidate.runs, turns)
    timings = {timing.name: timing for timing in compare(replays, rounds=rounds)}
    return [
        Measured(
            c.name,
            tuple(ms / 1e3 / repeats[c.name] for ms in timings[c.name].rounds_ms),
            c.work, c.limit, c.beside, c.is_ceiling, c.note,
        )
        for c in candidates
    ]  # fmt: skip


def fastest(candidates: Sequence[Candidate]) -> Candidate:
    return min(candidates, key=lambda candidate: seconds_of(candidate.runs))


def captured(runs: Sequence[Run], turns: int) -> Callable[[], None]:
    """Return what replays all runs `turns` times, as one graph, and waits for it."""
    with torch.cuda.stream(torch.cuda.Stream()):
        for run in runs:
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    # Results live until the same turn comes again, so that each has memory of its own.
    results: deque[object] = deque(maxlen=len(runs))
    with torch.cuda.graph(graph):
        for _ in range(turns):
            for run in runs:
                results.append(run())
    results.clear()

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay


def seconds_of(runs: Sequence[Run]) -> float:
    """Return a first estimate of the time of one run."""
    replay = captured(runs, 1)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    replay()
    start.record()
    replay()
    end.record()
    torch.cuda.synchronize()
    return max(start.elapsed_time(end) / 1e3 / len(runs), 1e-7)


def gpu() -> dict[str, str]:
    """Return the GPU's name, driver, limits and clocks as nvidia-smi has them at rest."""
    return _query(("name", "driver_version", "power.limit", "memory.total", *CLOCKS))


def clocks_under(run: Run) -> dict[str, str]:
    """Return clocks, temperature and power while something runs."""
    return _query(CLOCKS, run)


def _query(fields: Sequence[str], meanwhile: Run | None = None) -> dict[str, str]:
    """Return what nvidia-smi says of the current GPU; nothing where it cannot be asked."""
    device = f"GPU-{torch.cuda.get_device_properties().uuid}"
    command = ["nvidia-smi", "-i", device, f"--query-gpu={','.join(fields)}"]
    try:
        asked = subprocess.Popen(
            [*command, "--format=csv,noheader"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
    except OSError:
        return {}
    while meanwhile is not None and asked.poll() is None:
        meanwhile()
    answer = asked.communicate()[0].strip().split(", ")
    return dict(zip(fields, answer, strict=True)) if asked.returncode == 0 else {}
