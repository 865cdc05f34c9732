"""Independent pieces of work on the machines of a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import torch

from ptqsr.errors import PtqsrError, one_line

INSTALL = 'pip install "ptqsr[ray]"'
log = logging.getLogger("ptqsr")

# From nothing to what works on one item: called once by every worker.
Setup = Callable[[], Callable[[Any], Any]]


class Ray:
    """Workers on a Ray cluster, each with as many threads as this process has.

    So rounding is that of this process, on processors of one kind. The cluster is the one that
    RAY_ADDRESS names, one that runs on this machine, or else one that is started for this process.
    """

    def __init__(self, workers: int | None = None, *, gpu: bool = False) -> None:
        """`workers`: how many, by default as many as fit; `gpu`: each has a GPU.

        Raises PtqsrError where Ray is not installed, or the cluster has no room for them.
        """
        if workers is not None and workers < 1:
            raise PtqsrError(f"--workers {workers}: give 1 or more")
        if find_spec("ray") is None:
            raise PtqsrError(f"--engine ray needs Ray: {INSTALL}")
        import ray

        if not ray.is_initialized():
            # Its C++ side would log to the terminal what it expects and mends by itself.
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            try:
                ray.init(logging_level=logging.ERROR, log_to_driver=False)
            except Exception as error:  # Ray raises plain ones, too
                raise PtqsrError(
                    "--engine ray: no cluster is reached by RAY_ADDRESS, or starts here "
                    f"({one_line(error)})"
                ) from None
        self.threads, self.gpu = torch.get_num_threads(), gpu
        room = sum(self._room(node["Resources"]) for node in ray.nodes() if node["Alive"])
        self.workers = room if workers is None else workers
        if self.workers > room or room == 0:
            needs = f"{self.threads} CPUs" + (" and a GPU" if gpu else "")
            raise PtqsrError(
                f"--engine ray: the cluster has room for {room} workers of {needs}; add machines, "
                "or set OMP_NUM_THREADS lower, here and where results are compared"
            )

    def _room(self, resources: dict[str, float]) -> int:
        room = resources.get("CPU", 0) // self.threads
        return int(min(room, resources.get("GPU", 0)) if self.gpu else room)

    def map(self, setup: Setup, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (number of an item, what its worker made of it) as they are finished.

        Everything travels as pickles within the cluster. A worker that dies is started again, and
        its item taken up anew. Warnings of workers are this process' warnings. Raises PtqsrError
        as the work does.
        """
        if not items:
            return
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = [{"number": n, "item": ray.cloudpickle.dumps(item)} for n, item in enumerate(items)]
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Worker,
            fn_constructor_args=(ray.cloudpickle.dumps(setup), self.threads),
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(rows))),
            num_cpus=self.threads,
            num_gpus=1 if self.gpu else 0,
        )
        for row in done.iter_rows():
            made, refused, warnings = ray.cloudpickle.loads(row["result"])
            for warning in warnings:
                log.warning("%s", warning)
            if refused is not None:
                raise PtqsrError(refused)
            yield int(row["number"]), made


class Worker:
    """What runs in every process of the cluster."""

    def __init__(self, setup: bytes, threads: int) -> None:
        torch.set_num_threads(threads)
        self.setup = setup
        self.work: Callable[[Any], Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        from ray import cloudpickle

        made, refused = None, None
        with _Warnings() as warnings:
            try:
                if self.work is None:
                    self.work = cloudpickle.loads(self.setup)()
                made = self.work(cloudpickle.loads(row["item"]))
            except PtqsrError as error:
                refused = str(error)
        result = cloudpickle.dumps((made, refused, warnings.messages))
        return {"number": row["number"], "result": result}


class _Warnings(logging.Handler):
    """Keeps warnings for the process that the user sees."""

    def __enter__(self) -> _Warnings:
        self.messages: list[str] = []
        log.addHandler(self)
        log.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
