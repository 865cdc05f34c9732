"""Writing frames: how they are encoded, and files of a few of them each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from ptqsr.errors import PtqsrError, one_line
from ptqsr.files import replacing
from ptqsr.jobs.formats import VideoSettings
from ptqsr.jobs.manifest import NAME
from ptqsr.jobs.video.clip import Clip, Frame
from ptqsr.jobs.video.colour import from_rgb

SEGMENT = 120  # frames in a file: what an interruption may cost
# It takes every codec, and times as they are.
CONTAINER = "nut"
# Whatever the machine has: x264, x265 and FFV1 write other bits with another number of threads.
THREADS = 4
# x264's code for AVX-512 reads what nobody wrote (its mb-tree): files would differ between runs.
REPEATABLE = {"libx264": {"x264-params": "asm=avx2"}}
FORMATS = {(2, 2): "yuv420p", (2, 1): "yuv422p", (1, 1): "yuv444p"}


class Encoder:
    """How the frames of a clip are encoded, `scale` times as large."""

    def __init__(self, clip: Clip, scale: int, settings: VideoSettings) -> None:
        """Raises PtqsrError for a codec that is not there."""
        self.clip, self.settings = clip, settings
        self.width, self.height = clip.width * scale, clip.height * scale
        try:
            codec = av.Codec(settings.codec, "w")
        except ValueError:
            raise PtqsrError(f"--codec {settings.codec}: this PyAV has no such encoder") from None
        if codec.type != "video" or not codec.video_formats:
            raise PtqsrError(f"--codec {settings.codec}: encodes no video from memory")
        across, down = clip.subsampling
        form = FORMATS.get((across, down), "yuv420p")
        if self.width % across or self.height % down:
            form = "yuv444p"
        known = {form.name for form in codec.video_formats}
        self.form = form if form in known else "yuv420p"

    def add(self, container: Any) -> Any:
        """Return a stream of a container for the frames; raises PtqsrError where it takes none."""
        clip, name, options = self.clip, self.settings.codec, dict(self.settings.options)
        if torch.backends.cpu.get_cpu_capability() == "AVX512":
            options = {**REPEATABLE.get(name, {}), **options}
        try:
            stream = container.add_stream(name, rate=clip.rate, options=options)
        except ValueError:
            raise PtqsrError(
                f"--codec {name}: does not go into {container.format.name}; name the output .mkv"
            ) from None
        codec = stream.codec_context
        codec.width, codec.height, codec.pix_fmt = self.width, self.height, self.form
        codec.time_base, codec.sample_aspect_ratio = clip.time_base, clip.pixel
        codec.thread_count = THREADS
        clip.colours.tag(codec)
        return stream

    def begin(self, container: Any, stream: Any) -> None:
        """Write the container's header; raises PtqsrError for options that the codec lacks."""
        container.start_encoding()
        # The codec has taken out what it knows.
        if unknown := set(stream.codec_context.options):
            raise PtqsrError(
                f"--codec-option {min(unknown)}: {self.settings.codec} has no such option"
            )

    def frame(self, frame: Frame, rgb: np.ndarray) -> Any:
        made = from_rgb(rgb, self.form, self.clip.colours)
        made.pts, made.time_base, made.duration = frame.time, self.clip.time_base, frame.duration
        return made


def is_segment(path: Path) -> bool:
    return path.suffix == f".{CONTAINER}"


class Segments:
    """The frames in files of SEGMENT each, in a folder; a file is there once it is whole.

    What an interrupted run left half written is removed, with `anew` what it finished, too.
    """

    def __init__(self, folder: Path, encoder: Encoder, anew: bool) -> None:
        for path in folder.iterdir():
            if path.name != NAME and (anew or not is_segment(path)):
                path.unlink()
        self.folder, self.encoder = folder, encoder
        self.open = ExitStack()
        self.container: Any = None
        self.stream: Any = None
        self.next = 0

    def path(self, number: int) -> Path:
        return self.folder / f"{number:06}.{CONTAINER}"

    def paths(self, frames: int) -> list[Path]:
        return [self.path(number) for number in range(-(-frames // SEGMENT))]

    def lacks(self, frame: int) -> bool:
        """Return whether the file of that frame is to be made."""
        return not self.path(frame // SEGMENT).exists()

    def put(self, frame: Frame, rgb: np.ndarray) -> None:
        """Encode a frame; frames of a file come in order, from its first."""
        if self.container is not None and frame.number % SEGMENT == 0:
            self.finish()
        if self.container is None:
            path = self.path(frame.number // SEGMENT)
            temporary = self.open.enter_context(replacing(path))
            self.container = self.open.enter_context(av.open(str(temporary), "w", format=CONTAINER))
            self.stream = self.encoder.add(self.container)
            self.encoder.begin(self.container, self.stream)
            self.next = frame.time - 2 * SEGMENT
        self._write(self.stream.encode(self.encoder.frame(frame, rgb)))

    def finish(self) -> None:
        """Give the file that is being written its place, if there is one."""
        if self.container is not None:
            self._write(self.stream.encode(None))
            self.container = self.stream = None
            self.open.close()

    def _write(self, packets: list[Any]) -> None:
        """Write what was encoded, as decoded in its order and before any of it is shown.

        When exactly is for the whole video to say; libx265 does not know it of a single frame.
        """
        for packet in packets:
            packet.dts = self.next
            self.next += 1
            self.container.mux_one(packet)

    def __enter__(self) -> Segments:
        return self

    def __exit__(self, *error: Any) -> None:
        self.open.__exit__(*error)


@contextmanager
def encoding_errors(path: Path) -> Iterator[None]:
    """Turn what FFmpeg says of an output into one line that names it."""
    try:
        yield
    except av.error.FFmpegError as error:
        reason = one_line(error.strerror or error)
        raise PtqsrError(f"{path}: cannot be encoded ({reason})") from None
