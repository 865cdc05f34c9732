"""All candidates of a task on a GPU: compared, weighed, and timed in the same rounds."""

from __future__ import annotations

import gc
import math
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ptqsr.benchmarking.gpu import CANDIDATES, FAKE, Picture
from ptqsr.benchmarking.run import FLOAT, Record, for_floats
from ptqsr.benchmarking.task import Task, Unavailable
from ptqsr.benchmarking.timer import compare
from ptqsr.errors import one_line

# Inferences before anything is measured: what was seen before is captured as a CUDA graph.
WARM_UP = 3
# Of a picture of noise. Rounding to 11 bits leaves 48 dB and more; 2 bits, of which rounding flips
# some, 13; what computes something else, 0.
LEAST_DB = {FLOAT: 30.0, FAKE: 8.0}
CLOCKS = ("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.limit")


@dataclass(frozen=True)
class _Loaded:
    run: Picture
    peak_bytes: int
    agreement_db: float | None


def measure_on_gpu(
    task: Task,
    *,
    rounds: int,
    with_memory: bool = True,
    only: Collection[str] = (),
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Record]:
    """Return the records of all candidates, or of those named by `only`.

    A time is that between two CUDA events on an idle GPU, launches included. Every candidate is
    loaded twice: the first time libraries and compilers try what is best. `peak_bytes` is what
    PyTorch holds there at most from the second loading on, weights and the picture's output
    included. A candidate whose output is not the reference's (float32, or of a deployed network
    the simulated one) is not timed.
    """
    names = [
        name
        for name in CANDIDATES
        if (not only or name in only) and (task.checkpoint or for_floats(name))
    ]
    loaded: dict[str, _Loaded] = {}
    why: dict[str, str] = {}
    references: dict[str, torch.Tensor] = {}
    shape = f"{task.height}x{task.width}"
    with _cudnn(), torch.cuda.device(task.device):
        for done, name in enumerate(names):
            progress(f"{shape}: loading", done, len(names))
            try:
                loaded[name] = _load(name, task, references)
            except Unavailable as reason:
                why[name] = str(reason)
            except Exception as error:
                if "out of memory" in str(error):
                    why[name] = "out of memory beside those above; try fewer with --only"
                    torch.cuda.empty_cache()
                elif CANDIDATES[name].is_peer:
                    why[name] = one_line(error)
                else:
                    raise
        progress(f"{shape}: loading", len(names), len(names))
        references.clear()
        timings = compare(
            {name: one.run for name, one in loaded.items()},
            rounds=rounds,
            progress=lambda done: progress(f"{shape}: rounds", done, rounds),
            seconds_of=gpu_seconds,
        )
    found = {timing.name: timing for timing in timings}
    return [
        Record.of(
            task,
            name,
            timing=found.get(name),
            unavailable=why.get(name),
            peak_bytes=loaded[name].peak_bytes if name in loaded and with_memory else None,
            memory_unavailable=why.get(name, None if with_memory else "not asked for"),
            agreement_db=loaded[name].agreement_db if name in loaded else None,
        )
        for name in names
    ]


def gpu_seconds(run: Callable[[], object]) -> float:
    """Return how long a GPU takes for a run, from when it was idle."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def agreement(y: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the reference's variance over that of y's difference to it, in dB, at most 200."""
    signal = float(reference.double().var())
    error = float((y.double() - reference.double()).pow(2).mean())
    if not math.isfinite(error) or signal == 0:
        return -200.0
    return min(200.0, 10 * math.log10(signal / error)) if error > 0 else 200.0


def gpu_state(device: str) -> dict[str, Any]:
    """Return what a figure of a GPU must be traced to: its name, its driver, its clocks now."""
    properties = torch.cuda.get_device_properties(device)
    state: dict[str, Any] = {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory": properties.total_memory,
        "processors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    fields = ("driver_version", *CLOCKS)
    which = f"GPU-{properties.uuid}" if hasattr(properties, "uuid") else str(properties.name)
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "-i", which],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {**state, "nvidia-smi": one_line(error)}
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return {**state, **dict(zip(fields, values, strict=False))}


def _load(name: str, task: Task, references: dict[str, torch.Tensor]) -> _Loaded:
    device = task.device
    # Not kept: with it goes what was tried.
    _warm(_run_of(name, task))
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run = _run_of(name, task)
    y = _warm(run)
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated(device) - before
    if not torch.isfinite(y).all():
        raise Unavailable("wrong: its output holds NaN or Inf")
    if name in LEAST_DB:
        references[name] = y.cpu()
        return _Loaded(run, peak, None)
    kind = FLOAT if for_floats(name) else FAKE
    if kind not in references:
        return _Loaded(run, peak, None)
    found = agreement(y.cpu(), references[kind])
    if found < LEAST_DB[kind]:
        raise Unavailable(f"wrong: {found:.1f} dB from the output of {kind}")
    return _Loaded(run, peak, round(found, 2))


def _run_of(name: str, task: Task) -> Picture:
    run: Picture = CANDIDATES[name].load(task)  # type: ignore[assignment]
    return run


def _warm(run: Picture) -> torch.Tensor:
    for _ in range(WARM_UP - 1):
        run()
    return run()


@contextmanager
def _cudnn() -> Iterator[None]:
    """Let cuDNN choose what is fastest; its settings come back."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32
    cudnn.benchmark, cudnn.allow_tf32 = True, False
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32 = before
