"""Where large collections are worked on: --engine and --workers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ptqsr.errors import PtqsrError
from ptqsr.methods import Gather

if TYPE_CHECKING:
    from ptqsr.cluster import Ray

Engine = Annotated[
    str, typer.Option(help="local, or ray: on the machines of a Ray cluster, to the same result.")
]
Workers = Annotated[
    int | None, typer.Option(help="Of --engine ray; by default as many as fit into the cluster.")
]


def engine_of(name: str, workers: int | None, device: str) -> Ray | None:
    """Return the cluster that is asked for, or None for this process."""
    if name not in ("local", "ray"):
        raise PtqsrError(f"--engine {name}: choose local or ray")
    if name == "local":
        if workers is not None:
            raise PtqsrError(f"--workers {workers}: is for --engine ray")
        return None
    from ptqsr.cluster import Ray

    if device not in ("cpu", "cuda"):
        raise PtqsrError(f"--device {device}: with --engine ray give cpu or cuda; Ray picks GPUs")
    return Ray(workers, gpu=device == "cuda")


def gather_on(ray: Ray | None) -> Gather | None:
    """Return where calibration takes its statistics, or None for this process."""
    if ray is None:
        return None
    from ptqsr import cluster

    return partial(cluster.gather, ray)
