"""Which files a job reads and writes."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ptqsr.errors import PtqsrError
from ptqsr.files import check_folder, check_writable
from ptqsr.images import check_format, list_images
from ptqsr.jobs.formats import INSTALL, KEPT, VIDEO_SUFFIXES, check_video, have_video, is_video

log = logging.getLogger("ptqsr")


@dataclass(frozen=True)
class Job:
    source: Path
    target: Path


def list_jobs(source: Path, target: Path) -> list[Job]:
    """Return what is to be made of a file, or of the files in a folder: pictures, then videos.

    Raises PtqsrError before the work where it has no place.
    """
    if not source.exists():
        raise PtqsrError(f"{source}: no such file or folder")
    return _of_folder(source, target) if source.is_dir() else [_of_file(source, target)]


def _of_file(source: Path, target: Path) -> Job:
    if target.is_dir():
        target = target / f"{source.stem}{_suffix(source)}"
    if is_video(source):
        check_video(target)
    else:
        check_format(target)
    check_writable(target)
    if target.exists() and target.samefile(source):
        raise PtqsrError(f"{target}: is the {_kind(source)} that is read; name another")
    return Job(source, target)


def _of_folder(source: Path, target: Path) -> list[Job]:
    if target.exists() and not target.is_dir():
        raise PtqsrError(f"{target}: is a file; name a folder for the pictures of {source}")
    check_folder(target)
    inside, outside = target.resolve(), source.resolve()
    if inside == outside or outside in inside.parents:
        raise PtqsrError(f"{target}: lies in {source}, whose pictures are read; name another")
    files = sorted(list_images(source, also=VIDEO_SUFFIXES), key=is_video)
    videos = [path for path in files if is_video(path)]
    if videos and not have_video():
        what = f"{videos[0]}" + (f" and {len(videos) - 1} more" if len(videos) > 1 else "")
        if len(videos) == len(files):
            raise PtqsrError(f"{what}: videos need PyAV: {INSTALL}")
        log.warning("%s: left out, videos need PyAV: %s", what, INSTALL)
        files = files[: -len(videos)]
    jobs = _placed(files, source, target)
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        if job.target.resolve() in sources:
            kind = _kind(job.target)
            raise PtqsrError(f"{job.target}: is a {kind} that is read; name another folder")
    return jobs


def _placed(files: list[Path], source: Path, target: Path) -> list[Job]:
    """Return the jobs of files in a folder: a.jpg becomes a.png.

    Files that would share a place keep their ending in its name: a.jpg.png and a.png.png.
    """
    keep: set[Path] = set()
    while True:
        jobs = []
        for path in files:
            name = f"{path.name if path in keep else path.stem}{_suffix(path)}"
            jobs.append(Job(path, target / path.relative_to(source).with_name(name)))
        counts = Counter(job.target for job in jobs)
        shared = {job.source for job in jobs if counts[job.target] > 1}
        if not shared:
            return jobs
        keep |= shared  # their new places may be others', as that of a.png.bmp


def _suffix(source: Path) -> str:
    """Return that of what is made of a file in a folder."""
    if not is_video(source):
        return ".png"
    return source.suffix if source.suffix.lower() in KEPT else ".mkv"


def _kind(path: Path) -> str:
    return "video" if is_video(path) else "picture"
