"""`ptqsr upscale`: pictures in, larger pictures out."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ptqsr import models
from ptqsr.cli.device import Device, use_device
from ptqsr.cli.networks import (
    Deploy,
    Patches,
    PatchOverlap,
    Scale,
    by_patches,
    deployed,
    open_network,
)
from ptqsr.cli.output import (
    JsonFile,
    check_json,
    is_out_of_memory,
    on_gpu,
    progress_bar,
    stderr,
    write_json,
)
from ptqsr.errors import PtqsrError
from ptqsr.files import check_folder, check_writable
from ptqsr.images import check_format, check_holds, list_images, read_picture, write_picture
from ptqsr.upscaling import Planner, upscale_picture


def upscale(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            readable=False,  # not checked: our own error is one line
            help="A picture, or a folder of them at any depth.",
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            readable=False,
            help="The picture to write, or for a folder the folder (as .png).",
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
            "takes there; chooses the tile."
        ),
    ] = None,
    patches: Patches = None,
    patch_overlap: PatchOverlap = None,
    deploy: Deploy = False,
    device: Device = "cpu",
    overwrite: Annotated[bool, typer.Option(help="Replace pictures that are there.")] = False,
    skip_existing: Annotated[
        bool, typer.Option(help="Leave out pictures that are there: go on with a folder.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Enlarge pictures. Alpha, grey and colour profile stay; orientation is applied."""
    check_json(json_file)
    if overwrite and skip_existing:
        raise PtqsrError("--overwrite and --skip-existing exclude each other")
    if patches is not None and (tile is not None or memory is not None or stats != "image"):
        raise PtqsrError("--patches excludes --tile, --memory and --stats: patches are given")
    jobs = _jobs(source, target)
    there = [job.target for job in jobs if job.target.exists()]
    if there and not overwrite and not skip_existing:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise PtqsrError(
            f"{there[0]}{more}: exists; name another place, or give --overwrite or --skip-existing"
        )
    if skip_existing:
        jobs = [job for job in jobs if job.target not in there]
        stderr.print(f"{len(there)} pictures are there already, {len(jobs)} to make")
    place = use_device(device)
    network = open_network(checkpoint, scale)
    if deploy:
        # Each CUDA graph keeps memory that the limit's estimate does not know of.
        network = deployed(checkpoint, network, place, graphs=memory is None)
    network = by_patches(network.to(place), patches, patch_overlap)
    planner = Planner(network, tile=tile, statistics=stats, memory=memory)  # type: ignore[arg-type]
    records: list[dict[str, Any]] = []
    for number, job in enumerate(jobs, 1):
        prefix = f"{number}/{len(jobs)} " if len(jobs) > 1 else ""
        try:
            with progress_bar() as show:
                record = _one(network, planner, job, partial(show, f"{prefix}{job.source.name}"))
        except (PtqsrError, MemoryError, RuntimeError) as error:
            if isinstance(error, PtqsrError):
                reason = str(error)
            elif is_out_of_memory(error):
                where = f" on {place}" if on_gpu(error) else ""
                others = " there, or --tile, or use --device cpu" if on_gpu(error) else ""
                reason = (
                    f"{job.source}: out of memory{where}; set --memory below what is free{others}"
                )
            else:
                raise
            record = {"source": str(job.source), "error": reason}
            if len(jobs) > 1:
                print(f"ptqsr: {' '.join(reason.split())}", file=sys.stderr)
        records.append(record)
    write_json(records, json_file)
    failed = sum("error" in record for record in records)
    if failed and len(jobs) == 1:
        raise PtqsrError(records[0]["error"])
    if failed:
        others = "none is written" if failed == len(jobs) else "the others are written"
        raise PtqsrError(f"{failed} of {len(jobs)} pictures failed, {others}")


log = logging.getLogger("ptqsr")


@dataclass(frozen=True)
class _Job:
    source: Path
    target: Path


def _one(
    network: Any, planner: Planner, job: _Job, show: Callable[[int, int], None]
) -> dict[str, Any]:
    began = time.perf_counter()
    picture = read_picture(job.source)
    if picture.notice:
        log.warning("%s: %s", job.source, picture.notice)
    try:
        plan = planner.plan(*picture.rgb.shape[:2])
    except PtqsrError as error:
        raise PtqsrError(f"{job.source}: {error}") from None
    if not plan.exact and plan.patches is None:
        log.warning("%s: --stats tile changes the picture", job.source)
    height, width = picture.rgb.shape[:2]
    tall, wide = height * network.scale, width * network.scale
    check_holds(job.target, tall, wide, picture.alpha is not None)
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PtqsrError(f"{job.target}: cannot be written ({error.strerror})") from None
    check_writable(job.target)
    write_picture(job.target, upscale_picture(network, picture, plan, show))
    seconds = time.perf_counter() - began
    stderr.print(
        f"{job.target}: {width}x{height} to {wide}x{tall} in {seconds:.1f} s by "
        f"{network.title} x{network.scale}, {plan}",
        soft_wrap=True,
    )
    return {
        "source": str(job.source),
        "target": str(job.target),
        "input": [width, height],
        "output": [wide, tall],
        "tile": plan.tile,
        "whole_features": plan.whole_features,
        "exact": plan.exact,
        **({} if plan.patches is None else {"patches": plan.patches}),
        "device": str(models.device_of(network)),
        "seconds": round(seconds, 2),
    }


def _jobs(source: Path, target: Path) -> list[_Job]:
    """Return what is to be made; raises PtqsrError before the work where it has no place."""
    if not source.exists():
        raise PtqsrError(f"{source}: no such file or folder")
    if source.is_dir():
        if target.exists() and not target.is_dir():
            raise PtqsrError(f"{target}: is a file; name a folder for the pictures of {source}")
        check_folder(target)
        inside, outside = target.resolve(), source.resolve()
        if inside == outside or outside in inside.parents:
            raise PtqsrError(f"{target}: lies in {source}, whose pictures are read; name another")
        jobs = [
            _Job(path, (target / path.relative_to(source)).with_suffix(".png"))
            for path in list_images(source)
        ]
        counts = Counter(job.target for job in jobs)
        # a.jpg and a.png: both keep their ending in the name.
        jobs = [
            job
            if counts[job.target] == 1
            else _Job(job.source, job.target.with_name(f"{job.source.name}.png"))
            for job in jobs
        ]
        sources = {job.source.resolve() for job in jobs}
        for job in jobs:
            if job.target.resolve() in sources:
                raise PtqsrError(f"{job.target}: is a picture that is read; name another folder")
    else:
        if target.is_dir():
            target = target / f"{source.stem}.png"
        check_format(target)
        jobs = [_Job(source, target)]
        check_writable(target)
        if target.exists() and target.samefile(source):
            raise PtqsrError(f"{target}: is the picture that is read; name another")
    return jobs
