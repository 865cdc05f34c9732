"""A video through a network."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import av
import numpy as np

from ptqsr.files import check_writable
from ptqsr.images import Picture
from ptqsr.jobs.formats import VideoSettings, parts_of
from ptqsr.jobs.manifest import Manifest, stamp
from ptqsr.jobs.overlap import overlapped
from ptqsr.jobs.video.assembling import Assembly
from ptqsr.jobs.video.clip import Clip, Frame
from ptqsr.jobs.video.encoding import Encoder, Segments, encoding_errors, is_segment
from ptqsr.models import SRNetwork
from ptqsr.upscaling import Plan, Planner, upscale_fitting
from ptqsr.upscaling.run import Progress

log = logging.getLogger("ptqsr")


@dataclass(frozen=True)
class Made:
    """What a video became: `frames` in it, `there` of them made before, by `plan` in the end."""

    clip: Clip
    plan: Plan
    frames: int
    there: int


def upscale_video(
    network: SRNetwork,
    planner: Planner,
    source: Path,
    target: Path,
    settings: VideoSettings,
    job: Mapping[str, Any],
    *,
    ahead: int,
    anew: bool = False,
    progress: Progress = lambda done, total: None,
) -> Made:
    """Write an enlarged video, whole or not at all.

    Frames go through the network one by one and keep their times; what else is in the file is
    copied. Decoder, network and encoder work at one time, at most `ahead` frames apart. Finished
    segments stay beside `target` until all are there, with a manifest that says of which `job`: a
    run after an interruption decodes everything again, and goes on with the frames that are
    missing; `anew` forgets them. Raises PtqsrError as `Manifest` does, and where the video cannot
    be read or written.
    """
    check_writable(target)
    clip = Clip.open(source)
    for notice in clip.notices:
        log.warning("%s: %s", source, notice)
    encoder = Encoder(clip, network.scale, settings)
    assembly = Assembly(clip, target, encoder)
    folder = parts_of(target)
    identity = {**job, **settings.to_json(), "source": stamp(source), "pyav": av.__version__}
    times: list[int] = []
    there, duration = 0, 0
    with (
        Manifest(folder, identity, anew=anew) as manifest,
        _begun(folder),
        Segments(folder, encoder, anew) as segments,
    ):
        planner.in_use = manifest.remember(in_use=planner.in_use)["in_use"]
        plan = planner.plan(clip.height, clip.width)
        frames = clip.read(wanted=segments.lacks)

        def make(_: object, frame: Frame | None) -> tuple[Frame | None, np.ndarray | None]:
            nonlocal plan
            if frame is None or frame.rgb is None:
                return frame, None
            name = f"{source}, frame {frame.number}"
            made, plan = upscale_fitting(network, Picture(frame.rgb), planner, name)
            return frame, made.rgb

        def write(_: object, made: tuple[Frame | None, np.ndarray | None]) -> Frame | None:
            frame, rgb = made
            if frame is not None and rgb is not None:
                segments.put(frame, rgb)
            return frame

        stages = overlapped(repeat(None), lambda _: next(frames, None), make, write, ahead=ahead)
        with encoding_errors(target), closing(stages):
            for _, written in stages:
                frame = written.result()
                if frame is None:
                    break
                times.append(frame.time)
                duration = clip.end - frame.time if clip.end > frame.time else frame.duration
                there += frame.rgb is None
                progress(len(times), max(len(times), clip.frames))
            segments.finish()
        assembly.write(segments.paths(len(times)), times, duration)
        shutil.rmtree(folder)
    return Made(clip, plan, len(times), there)


@contextmanager
def _begun(folder: Path) -> Iterator[None]:
    """Remove a folder of segments again where none was finished."""
    try:
        yield
    except BaseException:
        if folder.is_dir() and not any(is_segment(path) for path in folder.iterdir()):
            shutil.rmtree(folder)
        raise
