"""All candidates of a task, timed in one process and weighed in processes of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ptqsr.benchmarking import ours, peers
from ptqsr.benchmarking.memory import peak_bytes
from ptqsr.benchmarking.task import Run, Task, Unavailable
from ptqsr.benchmarking.timer import Timing, compare
from ptqsr.errors import one_line

FLOAT = "float32"


@dataclass(frozen=True)
class Candidate:
    """A way to run the network; `load` raises Unavailable where it cannot."""

    load: Callable[[Task], Run]
    is_peer: bool = True


CANDIDATES: dict[str, Candidate] = {
    FLOAT: Candidate(ours.float32, is_peer=False),
    "fake-quantized": Candidate(ours.fake_quantized, is_peer=False),
    "deployed": Candidate(ours.deployed, is_peer=False),
    "PyTorch int8": Candidate(peers.pytorch),
    "ONNX Runtime float32": Candidate(peers.onnxruntime("float32")),
    "ONNX Runtime int8": Candidate(peers.onnxruntime("int8")),
    "ONNX Runtime int8, every layer": Candidate(peers.onnxruntime("all")),
    "OpenVINO float32": Candidate(peers.openvino("float32")),
    "OpenVINO int8": Candidate(peers.openvino("int8")),
    "OpenVINO int8, every layer": Candidate(peers.openvino("all")),
}


@dataclass(frozen=True)
class Record:
    """One candidate's figures; None where `unavailable` or `memory_unavailable` says why.

    `agreement_db` (on GPUs): how far the output is above its difference to that of the reference,
    as variances; None of a reference and where there is none.
    """

    candidate: str
    height: int
    width: int
    batch: int
    threads: int
    timing: Timing | None
    unavailable: str | None
    peak_bytes: int | None
    memory_unavailable: str | None
    device: str = "cpu"
    agreement_db: float | None = None

    @classmethod
    def of(cls, task: Task, candidate: str, **figures: Any) -> Record:
        """Return the record of a candidate on a task, with all members that the task has not."""
        of_task = ("height", "width", "batch", "threads", "device")
        return cls(candidate, **{name: getattr(task, name) for name in of_task}, **figures)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    task: Task,
    threads: list[int],
    *,
    rounds: int,
    with_peers: bool = False,
    with_memory: bool = True,
    only: Collection[str] = (),
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Record]:
    """Return the records of all candidates, or of those named by `only`, by numbers of threads.

    Rounds are interleaved, after one to warm up (timer.compare); ratios are time over that of
    float32 in the same round. `rounds` is at least 3. Torch's number of threads is put back.
    """
    names = [
        name
        for name, candidate in CANDIDATES.items()
        if (name in only if only else with_peers or not candidate.is_peer)
        and (task.checkpoint or for_floats(name))
    ]
    before = torch.get_num_threads()
    records = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            if with_peers or any(CANDIDATES[name].is_peer for name in names):
                task = replace(task, onnx=peers.export(task, Path(folder)))
            for number in threads:
                part = replace(task, threads=number)
                records += _measure(part, names, rounds, with_memory, progress)
        finally:
            torch.set_num_threads(before)
    return records


def _measure(
    task: Task,
    names: list[str],
    rounds: int,
    with_memory: bool,
    progress: Callable[[str, int, int], None],
) -> list[Record]:
    runs: dict[str, Run] = {}
    why: dict[str, str] = {}
    for name in names:
        try:
            runs[name] = CANDIDATES[name].load(task)
        except Unavailable as reason:
            why[name] = str(reason)
        except Exception as error:
            if not CANDIDATES[name].is_peer:
                raise
            why[name] = one_line(error)  # other people's tools raise what they like
    shape = f"{task.height}x{task.width}, {task.threads} threads"
    torch.set_num_threads(task.threads)
    timings = compare(
        runs, rounds=rounds, progress=lambda done: progress(f"{shape}: rounds", done, rounds)
    )
    found = {timing.name: timing for timing in timings}
    runs.clear()  # their memory is the children's now
    peaks: dict[str, int] = {}
    why_no_peak = dict(why)
    if with_memory:
        for done, name in enumerate(found, 1):
            try:
                peaks[name] = peak_bytes(name, task)
            except Unavailable as reason:
                why_no_peak[name] = str(reason)
            progress(f"{shape}: memory", done, len(found))
    return [
        Record.of(
            task,
            name,
            timing=found.get(name),
            unavailable=why.get(name),
            peak_bytes=peaks.get(name),
            memory_unavailable=why_no_peak.get(name, None if with_memory else "not asked for"),
        )
        for name in names
    ]


def for_floats(name: str) -> bool:
    """Return whether a candidate needs no checkpoint."""
    return name not in ("fake-quantized", "deployed")
