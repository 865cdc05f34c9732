"""Calibration, evaluation and upscaling in pieces, for the workers of a cluster.

Files are named by absolute paths, which must lead to the same files on every machine.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ptqsr import jobs as here
from ptqsr.calibration import Inputs, Part, collect
from ptqsr.cluster.engine import Ray
from ptqsr.evaluation import EvaluationResult, ImageResult, Pair, measure
from ptqsr.jobs import Job, Outcome, Settings, is_video
from ptqsr.models import SRNetwork, device_of
from ptqsr.upscaling import Planner

# Pieces for each worker: with more, the slowest is waited for less, and more statistics travel.
PIECES = 2
# Pictures that a worker takes at one time, reading and writing while its network works.
TOGETHER = 8

# Makes a network that runs where this is called.
Build = Callable[[], SRNetwork]
Progress = Callable[[int, int], None]


def gather(
    ray: Ray,
    network: SRNetwork,
    layers: Mapping[str, nn.Conv2d],
    parts: Mapping[int, Part],
    inputs: Inputs,
    make: Callable[[int, int], Any],
    usual: Mapping[str, int],
    progress: Progress,
) -> dict[int, Any]:
    """Collect statistics: with `functools.partial(gather, ray)`, `ptqsr.calibrate` takes it.

    They are bit for bit those of one process: ptqsr.calibration.statistics says why.
    """
    size = -(-len(inputs) // (ray.workers * PIECES))
    pieces = [inputs.part(start, start + size) for start in range(0, len(inputs), size)]
    total = {number: make(number, part.channels) for number, part in parts.items()}
    empty, plain = copy.deepcopy(total), copy.deepcopy(network).cpu()
    setup = partial(_gatherer, plain, list(layers), parts, empty, usual, ray.gpu)
    progress(0, len(inputs))
    done = 0
    for piece, share in ray.map(setup, pieces):
        for number, statistics in share.items():
            total[number].add(statistics)
        done += len(pieces[piece])
        progress(done, len(inputs))
    return total


def _gatherer(
    network: SRNetwork,
    names: Sequence[str],
    parts: Mapping[int, Part],
    empty: Mapping[int, Any],
    usual: Mapping[str, int],
    gpu: bool,
) -> Callable[[Inputs], dict[int, Any]]:
    network.to("cuda" if gpu else "cpu")
    layers: dict[str, Any] = {name: network.get_submodule(name) for name in names}

    def work(inputs: Inputs) -> dict[int, Any]:
        inputs.device = device_of(network)
        share = copy.deepcopy(empty)
        return collect(
            *(network, layers, parts, inputs, lambda number, _: share[number]),
            usual=usual,
            first=inputs.first,
        )

    return work


def evaluate(
    ray: Ray, build: Build, pairs: Sequence[Pair], progress: Progress = lambda done, total: None
) -> EvaluationResult:
    """Return what `ptqsr.evaluate` does for these pairs of files."""
    items = [
        replace(pair, hr=pair.hr.absolute(), lr=None if pair.lr is None else pair.lr.absolute())
        for pair in pairs
    ]
    found: dict[int, ImageResult] = {}
    for number, result in ray.map(partial(_measurer, build), items):
        found[number] = result
        progress(len(found), len(pairs))
    return EvaluationResult(tuple(found[number] for number in range(len(pairs))))


def _measurer(build: Build) -> Callable[[Pair], ImageResult]:
    return partial(measure, build())


def upscale_files(
    ray: Ray,
    build: Build,
    planning: Mapping[str, Any],
    jobs: Sequence[Job],
    settings: Settings,
) -> Iterator[Outcome]:
    """Yield what became of each job, as they are finished; the files are those of one process.

    `planning`: the Planner's options, with the memory in use as one process counts it (`in_use`).
    """
    pictures = [job for job in jobs if not is_video(job.source)]
    size = max(1, min(TOGETHER, -(-len(pictures) // (ray.workers * PIECES))))
    pieces = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    pieces += [[job] for job in jobs if is_video(job.source)]
    absolute = [
        [Job(job.source.absolute(), job.target.absolute()) for job in piece] for piece in pieces
    ]
    setup = partial(_upscaler, build, dict(planning), settings)
    for number, outcomes in ray.map(setup, absolute):
        for job, outcome in zip(pieces[number], outcomes, strict=True):
            names = {"source": str(job.source), "target": str(job.target)}
            known = {key: value for key, value in names.items() if key in outcome.figures}
            yield replace(outcome, job=job, figures={**outcome.figures, **known})


def _upscaler(
    build: Build, planning: Mapping[str, Any], settings: Settings
) -> Callable[[list[Job]], list[Outcome]]:
    network = build()
    options = dict(planning)
    in_use = options.pop("in_use")
    planner = Planner(network, **options)
    planner.in_use = in_use
    return lambda piece: list(here.upscale_files(network, planner, piece, settings))
