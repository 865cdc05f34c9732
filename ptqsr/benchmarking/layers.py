"""How long every step of a network takes, as PyTorch dispatches it, and how much it does."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ptqsr.benchmarking.task import Task

PASSES = 3
# Behind so many cycles of waiting the GPU finds the next operations ready: launches do not count.
CYCLES = 100_000_000


@dataclass(frozen=True)
class Step:
    """Operations of one kind and shape: `ms` of all `count` of them, medians of passes.

    TOP/s: two operations a multiply-accumulate, of convolutions alone. GB/s: what goes in and comes
    out, once.
    """

    candidate: str
    operation: str
    shape: str
    count: int
    ms: float
    share: float
    tops: float | None
    gigabytes_per_second: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def steps(task: Task, candidate: str, load: Callable[[Task], Callable[[], object]]) -> list[Step]:
    """Return the steps of a candidate, in the order in which they first come.

    One pass more than is counted warms up. Raises Unavailable where `load` does.
    """
    torch.set_num_threads(task.threads)
    on_gpu = torch.device(task.device).type == "cuda"
    with torch.cuda.device(task.device) if on_gpu else nullcontext():
        run = load(task)
        passes = [_pass(run, on_gpu) for _ in range(PASSES + 1)][1:]
    found: dict[tuple[str, str], list[tuple[float, int, int]]] = {}
    for several in zip(*passes, strict=True):
        operation, shape, work, size, _ = several[0]
        seconds = median(row[4] for row in several)
        found.setdefault((operation, shape), []).append((seconds, work, size))
    total = sum(seconds for rows in found.values() for seconds, *_ in rows)
    made = []
    for (operation, shape), rows in found.items():
        seconds, work, size = (sum(column) for column in zip(*rows, strict=True))
        made.append(
            Step(
                candidate,
                operation,
                shape,
                len(rows),
                seconds * 1e3,
                seconds / total,
                work / seconds / 1e12 if work else None,
                size / seconds / 1e9,
            )
        )
    return made


Row = tuple[str, str, int, int, float]  # operation, shape, operations, bytes, seconds


def _pass(run: Callable[[], object], on_gpu: bool) -> list[Row]:
    watch = _Watch(_event if on_gpu else time.perf_counter)
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda._sleep(CYCLES)
    with watch:
        run()
    if on_gpu:
        torch.cuda.synchronize()
        return [(*row, start.elapsed_time(end) / 1e3) for *row, start, end in watch.rows]
    return [(*row, end - start) for *row, start, end in watch.rows]


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


class _Watch(TorchDispatchMode):
    def __init__(self, now: Callable[[], Any]) -> None:
        super().__init__()
        self.now = now
        self.rows: list[tuple[Any, ...]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        start = self.now()
        result = func(*args, **(kwargs or {}))
        end = self.now()
        made = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        if made and not func.is_view:
            name = str(func.overloadpacket).removeprefix("aten.")
            given = dict(zip((a.name for a in func._schema.arguments), args, strict=False))
            touched = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
            size = sum(t.numel() * t.element_size() for t in (*touched, *made))
            self.rows.append((name, *_shape(name, given, made[0]), size, start, end))
        return result


def _shape(name: str, given: dict[str, Any], y: torch.Tensor) -> tuple[str, int]:
    """Return a step's shape in words, and how many operations its products are."""
    weight = given.get("levels", given.get("weight"))
    if "conv" not in name or not isinstance(weight, torch.Tensor) or weight.ndim != 4:
        return "x".join(map(str, y.shape)), 0
    transposed = given.get("transposed", "transpose" in name)
    outer, inner, *window = weight.shape
    pixels = given["input"] if transposed else y
    inner, outer = (outer, inner) if transposed else (inner, outer)
    sizes = "x".join(map(str, (*y.shape[:1], *y.shape[2:])))
    return (
        f"{'x'.join(map(str, window))} {inner}->{outer} to {sizes}",
        2 * pixels.numel() * weight[0].numel(),
    )
