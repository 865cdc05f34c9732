"""Reading a video: what it is, and its frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ptqsr.errors import PtqsrError, one_line
from ptqsr.jobs.video.colour import Colours, to_rgb


@dataclass(frozen=True)
class Frame:
    """A frame as it is looked at, uint8 [H, W, 3], or None where it was not wanted.

    `time`, `duration`: in units of the clip's `time_base`.
    """

    number: int
    time: int
    duration: int
    rgb: np.ndarray | None


@dataclass(frozen=True)
class Clip:
    """A file's first video. Sizes in pixels, of frames the way up that they are looked at.

    `turn`: quarter turns counterclockwise that bring stored frames there. `pixel`: width over
    height of a pixel. `rate`: frames a second, on average. `frames`: about how many there are.
    `end`: when the last one ends, or 0 where the file does not say.
    `subsampling`: pixels to a value of colour, across and down.
    """

    path: Path
    index: int
    width: int
    height: int
    turn: int
    pixel: Fraction
    time_base: Fraction
    rate: Fraction
    frames: int
    end: int
    colours: Colours
    subsampling: tuple[int, int]
    notices: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> Clip:
        """Return what a file holds; raises PtqsrError where it holds no video that is read."""
        with opened(path) as container:
            if not container.streams.video:
                raise PtqsrError(f"{path}: holds no video")
            stream = container.streams.video[0]
            first = next(container.decode(stream), None)
            if first is None:
                raise PtqsrError(f"{path}: holds no frame")
            turn = round(first.rotation / 90) % 4
            width, height = first.width, first.height
            pixel = Fraction(stream.sample_aspect_ratio or 1)
            rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            seconds = float((stream.duration or 0) * stream.time_base)
            return cls(
                path,
                stream.index,
                *((height, width) if turn % 2 else (width, height)),
                turn,
                1 / pixel if turn % 2 else pixel,
                Fraction(stream.time_base),
                rate,
                stream.frames or round(seconds * rate),
                (stream.start_time or 0) + stream.duration if stream.duration else 0,
                Colours.of(first, path),
                _subsampling(first.format),
                tuple(_notices(first)),
            )

    def read(self, wanted: Any = lambda number: True) -> Iterator[Frame]:
        """Yield all frames in order; of those that are not `wanted(number)` no pixels.

        Where a file has no or equal times, frames follow each other by one unit at least. Raises
        PtqsrError where frames cannot be decoded, or change their size.
        """
        number, time = 0, None
        with opened(self.path) as container:
            stream = container.streams[self.index]
            stream.thread_type = "AUTO"
            usual = max(1, round(1 / (self.rate * self.time_base)))
            for frame in container.decode(stream):
                size = (frame.height, frame.width) if self.turn % 2 else (frame.width, frame.height)
                if size != (self.width, self.height):
                    raise PtqsrError(
                        f"{self.path}: frame {number} is {size[0]}x{size[1]}, those before "
                        f"{self.width}x{self.height}; cut the video there"
                    )
                follows = 0 if time is None else time + usual
                given = follows if frame.pts is None else frame.pts
                time = given if time is None else max(given, time + 1)
                rgb = None
                if wanted(number):
                    rgb = np.ascontiguousarray(np.rot90(to_rgb(frame, self.colours), self.turn))
                yield Frame(number, time, frame.duration or usual, rgb)
                number += 1


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file to read; whatever goes wrong with it becomes one line that names it."""
    try:
        with av.open(str(path)) as container:
            yield container
    except av.error.FFmpegError as error:
        reason = one_line(error.strerror or error)
        raise PtqsrError(f"{path}: cannot be read as a video ({reason})") from None


def _subsampling(form: Any) -> tuple[int, int]:
    if form.is_rgb or len(form.components) < 3:
        return (1, 1) if form.is_rgb else (2, 2)
    return 64 // form.chroma_width(64), 64 // form.chroma_height(64)


def _notices(frame: Any) -> Iterator[str]:
    parts = frame.format.components
    if (bits := max(part.bits for part in parts)) > 8:
        yield f"has {bits} bits a channel, of which 8 are used"
    if len(parts) in (2, 4):
        yield "has transparency, which is lost"
    if frame.interlaced_frame:
        yield "is interlaced, and enlarged as it is; deinterlace it first"
