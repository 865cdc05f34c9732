"""Files through a network, which works while others are read and written."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from ptqsr.errors import PtqsrError, is_out_of_memory, on_gpu
from ptqsr.files import check_writable
from ptqsr.images import Picture, check_holds, read_picture, write_picture
from ptqsr.jobs.formats import VideoSettings, is_video
from ptqsr.jobs.listing import Job
from ptqsr.jobs.overlap import overlapped
from ptqsr.models import SRNetwork, device_of
from ptqsr.upscaling import Plan, Planner, upscale_fitting
from ptqsr.upscaling.run import Progress

# Pictures that are read before it is their turn, and as many that wait to be written.
AHEAD = 2
# Frames: encoders take them in bursts.
FRAMES_AHEAD = 8

# From a job to what shows how much of it is done.
Watch = Callable[[Job], AbstractContextManager[Progress]]
log = logging.getLogger("ptqsr")


@dataclass(frozen=True)
class Settings:
    """`overlap`: read and write while the network works. `job`: what manifests say of it, JSON.

    `anew`: finished parts of videos are of no use.
    """

    overlap: bool = True
    video: VideoSettings = field(default_factory=VideoSettings)
    job: Mapping[str, Any] = field(default_factory=dict)
    anew: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `figures` for programs and a `line` for people, or the `error`."""

    job: Job
    figures: dict[str, Any] = field(default_factory=dict)
    line: str = ""
    error: str | None = None


def unwatched(job: Job) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, total: None)


def upscale_files(
    network: SRNetwork,
    planner: Planner,
    jobs: Sequence[Job],
    settings: Settings,
    watch: Watch = unwatched,
) -> Iterator[Outcome]:
    """Yield what became of each job: pictures, then videos; no failure stops those behind it."""
    pictures = [job for job in jobs if not is_video(job.source)]
    yield from _pictures(network, planner, pictures, settings, watch)
    for job in jobs:
        if is_video(job.source):
            yield _video(network, planner, job, settings, watch)


@dataclass(frozen=True)
class _Work:
    """A picture on its way, its (height, width) as it was read, the seconds spent on it."""

    picture: Picture
    size: tuple[int, int]
    seconds: float
    plan: Plan | None = None


def _pictures(
    network: SRNetwork, planner: Planner, jobs: Sequence[Job], settings: Settings, watch: Watch
) -> Iterator[Outcome]:
    def read(job: Job) -> _Work:
        began = time.perf_counter()
        picture = read_picture(job.source)
        return _Work(picture, picture.rgb.shape[:2], time.perf_counter() - began)

    def make(job: Job, work: _Work) -> _Work:
        began = time.perf_counter()
        if work.picture.notice:
            log.warning("%s: %s", job.source, work.picture.notice)
        tall, wide = (n * network.scale for n in work.size)
        check_holds(job.target, tall, wide, work.picture.alpha is not None)
        with watch(job) as show:
            made, plan = upscale_fitting(network, work.picture, planner, str(job.source), show)
        _warn(job, plan)
        return _Work(made, work.size, work.seconds + time.perf_counter() - began, plan)

    def write(job: Job, work: _Work) -> _Work:
        began = time.perf_counter()
        _make_folder(job)
        write_picture(job.target, work.picture)
        return replace(work, seconds=work.seconds + time.perf_counter() - began)

    ahead = AHEAD if settings.overlap else 0
    for job, written in overlapped(jobs, read, make, write, ahead=ahead, writers=max(1, ahead)):
        if (error := written.exception()) is not None:
            yield _failed(network, job, error)
        else:
            work = written.result()
            yield _made(network, job, work.size, work.plan, work.seconds)


def _video(
    network: SRNetwork, planner: Planner, job: Job, settings: Settings, watch: Watch
) -> Outcome:
    from ptqsr.jobs.video import upscale_video

    began = time.perf_counter()
    try:
        _make_folder(job)
        with watch(job) as show:
            made = upscale_video(
                network,
                planner,
                job.source,
                job.target,
                settings.video,
                settings.job,
                ahead=FRAMES_AHEAD if settings.overlap else 0,
                anew=settings.anew,
                progress=show,
            )
    except Exception as error:
        return _failed(network, job, error)
    _warn(job, made.plan)
    size, seconds = (made.clip.height, made.clip.width), time.perf_counter() - began
    return _made(network, job, size, made.plan, seconds, made.frames, made.there)


def _warn(job: Job, plan: Plan) -> None:
    if not plan.exact and plan.patches is None:
        log.warning("%s: --stats tile changes the picture", job.source)


def _make_folder(job: Job) -> None:
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PtqsrError(f"{job.target}: cannot be written ({error.strerror})") from None
    check_writable(job.target)


def _made(
    network: SRNetwork,
    job: Job,
    size: tuple[int, int],
    plan: Plan,
    seconds: float,
    frames: int | None = None,
    there: int = 0,
) -> Outcome:
    """Return what is said of a picture, or of a video of so many frames."""
    (height, width), scale = size, network.scale
    figures = {
        "source": str(job.source),
        "target": str(job.target),
        "input": [width, height],
        "output": [width * scale, height * scale],
        **({} if frames is None else {"frames": frames, "frames_there": there}),
        "tile": plan.tile,
        "whole_features": plan.whole_features,
        "exact": plan.exact,
        **({} if plan.patches is None else {"patches": plan.patches}),
        "device": str(device_of(network)),
        "seconds": round(seconds, 2),
    }
    what = "" if frames is None else f"{frames} frames, " + (f"{there} there, " if there else "")
    line = (
        f"{job.target}: {what}{width}x{height} to {width * scale}x{height * scale} in "
        f"{seconds:.1f} s by {network.title} x{scale}, {plan}"
    )
    return Outcome(job, figures, line)


def _failed(network: SRNetwork, job: Job, error: BaseException) -> Outcome:
    """Return why a file was not made; raises what is no fault of the file."""
    if isinstance(error, PtqsrError):
        reason = str(error)
        if str(job.source) not in reason and str(job.target) not in reason:
            reason = f"{job.source}: {reason}"
    elif is_out_of_memory(error):
        where = f" on {device_of(network)}" if on_gpu(error) else ""
        others = " there, or --tile, or use --device cpu" if on_gpu(error) else ""
        reason = f"{job.source}: out of memory{where}; set --memory below what is free{others}"
    else:
        raise error
    return Outcome(job, {"source": str(job.source), "error": reason}, error=reason)
