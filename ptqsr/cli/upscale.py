"""`ptqsr upscale`: pictures and videos in, larger ones out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ptqsr.cli.device import Device
from ptqsr.cli.networks import (
    Deploy,
    Patches,
    PatchOverlap,
    Running,
    Scale,
    digest_of,
    open_network,
)
from ptqsr.cli.output import JsonFile, check_json, progress_bar, stderr, write_json
from ptqsr.cli.scaling import Engine, Workers, engine_of
from ptqsr.errors import PtqsrError
from ptqsr.jobs import (
    Job,
    Manifest,
    Outcome,
    Settings,
    VideoSettings,
    Watch,
    list_jobs,
    parts_of,
    upscale_files,
)
from ptqsr.upscaling import Planner
from ptqsr.upscaling.run import Progress


def upscale(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            readable=False,  # not checked: our own error is one line
            help="A picture, a video, or a folder of them at any depth.",
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            readable=False,
            help="The file to write, or for a folder the folder (pictures as .png).",
        ),
    ],
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint", "-c", help="Of `ptqsr calibrate`, a weight file, or a bundled name."
        ),
    ] = "edsr_x4",
    scale: Scale = None,
    tile: Annotated[
        int | None, typer.Option(help="Run by tiles of so many input pixels, as exact as whole.")
    ] = None,
    stats: Annotated[
        str,
        typer.Option(help="image, or tile: statistics of each tile, which changes the picture."),
    ] = "image",
    memory: Annotated[
        str | None,
        typer.Option(
            help="Limit for the whole process, as 2GB or 800MB, on a GPU for what the network "
            "takes there; chooses the tile. On CPUs files are then read, made and written one "
            "after the other."
        ),
    ] = None,
    patches: Patches = None,
    patch_overlap: PatchOverlap = None,
    deploy: Deploy = False,
    device: Device = "cpu",
    codec: Annotated[
        str, typer.Option(help="Encoder of videos, by FFmpeg's name: libx265, ffv1, ...")
    ] = "libx264",
    codec_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of the encoder, as crf=18."),
    ] = None,
    engine: Engine = "local",
    workers: Workers = None,
    overwrite: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
    skip_existing: Annotated[
        bool, typer.Option(help="Leave out what is there already and is not this job's.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Enlarge pictures and videos. The same command goes on with an interrupted folder or video.

    Alpha, grey and colour profile stay; orientation is applied. Of a video, times, colours, sound
    and subtitles stay.
    """
    check_json(json_file)
    if overwrite and skip_existing:
        raise PtqsrError("--overwrite and --skip-existing exclude each other")
    if patches is not None and (tile is not None or memory is not None or stats != "image"):
        raise PtqsrError("--patches excludes --tile, --memory and --stats: patches are given")
    video = VideoSettings.of(codec, codec_option or [])
    jobs = list_jobs(source, target)
    ray = engine_of(engine, workers, device)
    network = open_network(checkpoint, scale)
    options = {"tile": tile, "statistics": stats, "memory": memory}
    identity = {
        **{"checkpoint": digest_of(checkpoint), "scale": network.scale, "deploy": deploy},
        **{**options, "patches": patches, "patch_overlap": patch_overlap},
        "device": device.partition(":")[0],
    }
    build = partial(
        Running(checkpoint, device, deploy, memory is None, patches, patch_overlap), network
    )
    running = build() if ray is None else network
    planner = Planner(running, **options)  # type: ignore[arg-type]
    settings = Settings(
        overlap=memory is None or device != "cpu", video=video, job=identity, anew=overwrite
    )
    with _manifest(source, target, identity, overwrite) as manifest:
        left = _left(jobs, manifest, overwrite, skip_existing)
        if manifest is not None:
            planner.in_use = manifest.remember(in_use=planner.in_use)["in_use"]
        if ray is None:
            outcomes = upscale_files(running, planner, left, settings, _watching(left))
        else:
            from ptqsr import cluster

            planning = {**options, "in_use": planner.in_use}
            outcomes = cluster.upscale_files(ray, build, planning, left, settings)
        records = _report(outcomes, left, manifest)
    write_json(records, json_file)
    failed = sum("error" in record for record in records)
    if failed and len(left) == 1:
        raise PtqsrError(records[0]["error"])
    if failed:
        others = "none is written" if failed == len(left) else "the others are written"
        raise PtqsrError(f"{failed} of {len(left)} files failed, {others}")


@contextmanager
def _manifest(
    source: Path, target: Path, identity: dict[str, Any], anew: bool
) -> Iterator[Manifest | None]:
    """Give the manifest of a folder's job; that of a video stands beside its parts.

    It knows the folder: files of another one may have the same names.
    """
    if not source.is_dir():
        yield None
        return
    job = {**identity, "folder": str(source.resolve())}
    with Manifest(target, job, anew=anew) as manifest:
        yield manifest


def _left(
    jobs: Sequence[Job], manifest: Manifest | None, overwrite: bool, skip_existing: bool
) -> list[Job]:
    """Return the jobs that are to be done, whose places are then claimed.

    Raises PtqsrError where there is something else in a place.
    """

    def ours(job: Job) -> bool:
        return parts_of(job.target).is_dir() or (
            manifest is not None and manifest.claimed(job.target)
        )

    others = [job for job in jobs if job.target.exists() and not ours(job)]
    if others and not overwrite and not skip_existing:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise PtqsrError(
            f"{others[0].target}{more}: exists; name another place, or give --overwrite or "
            "--skip-existing"
        )
    left_out = set() if overwrite else set(others)
    left = [job for job in jobs if job not in left_out]
    if manifest is not None:
        left = [job for job in left if not manifest.finished(job.source, job.target)]
        manifest.claim(job.target for job in left)
    if len(left) < len(jobs):
        stderr.print(f"already there: {len(jobs) - len(left)}, to make: {len(left)}")
    return left


def _watching(jobs: Sequence[Job]) -> Watch:
    """Return what shows how much of a job is done, and which of how many it is."""
    numbers = {job: number for number, job in enumerate(jobs, 1)}

    @contextmanager
    def watch(job: Job) -> Iterator[Progress]:
        prefix = f"{numbers[job]}/{len(jobs)} " if len(jobs) > 1 else ""
        with progress_bar() as show:
            yield partial(show, f"{prefix}{job.source.name}")

    return watch


def _report(
    outcomes: Iterable[Outcome], jobs: Sequence[Job], manifest: Manifest | None
) -> list[dict[str, Any]]:
    """Say what becomes of each job when it does; return what programs read, in the jobs' order."""
    records = {}
    for outcome in outcomes:
        if outcome.error is None:
            stderr.print(outcome.line, soft_wrap=True)
            if manifest is not None:
                manifest.finish(outcome.job.source, outcome.job.target)
        elif len(jobs) > 1:
            print(f"ptqsr: {' '.join(outcome.error.split())}", file=sys.stderr)
        records[outcome.job] = outcome.figures
    return [records[job] for job in jobs]
