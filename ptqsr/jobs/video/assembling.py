"""The finished video: encoded frames, and all that is copied from the file they came from."""

from __future__ import annotations

import heapq
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

from ptqsr.files import replacing
from ptqsr.jobs.formats import CONTAINERS
from ptqsr.jobs.video.clip import Clip, Frame, opened
from ptqsr.jobs.video.encoding import Encoder, encoding_errors

log = logging.getLogger("ptqsr")


class Assembly:
    """How a clip's enlarged frames become a file, with the other streams of the clip's file."""

    def __init__(self, clip: Clip, target: Path, encoder: Encoder) -> None:
        """Try what the container takes, before the work.

        Streams that it does not take are left out, with a warning. Raises PtqsrError where it does
        not take the video, or the codec refuses size or options.
        """
        self.clip, self.target, self.encoder = clip, target, encoder
        self.format = CONTAINERS[target.suffix.lower()]
        self.options = {"fflags": "+bitexact"}  # no random numbers, as .mkv has them
        if self.format in ("mp4", "mov"):
            # Where times do not begin at 0, they are cut to this unit.
            self.options["movie_timescale"] = str(clip.time_base.denominator)
        self._try()
        with opened(clip.path) as source:
            others = [stream for stream in source.streams if stream.index != clip.index]
            self.copied = [stream.index for stream in others if self._takes(stream)]
            for stream in others:
                if stream.index not in self.copied:
                    log.warning(
                        "%s: stream %d (%s) does not fit into %s and is left out; .mkv may hold it",
                        *(clip.path, stream.index, _kind(stream), target.suffix),
                    )

    def write(self, segments: Sequence[Path], times: Sequence[int], last: int) -> None:
        """Write the file, whole or not at all.

        `times` are those of the frames in order, `last` the duration of the last, in units of the
        clip's `time_base`.
        """
        with (
            replacing(self.target) as temporary,
            encoding_errors(self.target),
            opened(self.clip.path) as source,
            av.open(
                str(temporary), "w", format=self.format, container_options=self.options
            ) as container,
        ):
            container.metadata.update(source.metadata)
            container.set_chapters(source.chapters())
            # Not as segments have it: they know less of colours and pixels than the encoder does.
            video = self.encoder.add(container)
            video.metadata.update(source.streams[self.clip.index].metadata)
            copies = {index: _copy(container, source.streams[index]) for index in self.copied}
            self.encoder.begin(container, video)
            streams = (
                self._frames(segments, [*times, times[-1] + last], video),
                _packets(source, copies),
            )
            for _, packet in heapq.merge(*streams, key=lambda entry: entry[0]):
                container.mux_one(packet)

    def _try(self) -> None:
        """Make a video of one black frame."""
        encoder, clip, file = self.encoder, self.clip, io.BytesIO()
        black = np.zeros((encoder.height, encoder.width, 3), np.uint8)
        with encoding_errors(self.target), av.open(file, "w", format=self.format) as container:
            stream = encoder.add(container)
            encoder.begin(container, stream)
            frame = encoder.frame(Frame(0, 0, 1, black), black)
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                packet.pts = packet.dts = 0
                container.mux_one(packet)
        file.seek(0)
        with av.open(file) as container:
            if (container.streams.video[0].sample_aspect_ratio or 1) != clip.pixel:
                log.warning(
                    "%s: its pixels are not square (%s), which %s in %s does not say",
                    *(clip.path, clip.pixel, encoder.settings.codec, self.target.suffix),
                )

    def _takes(self, stream: Any) -> bool:
        try:
            with av.open(io.BytesIO(), "w", format=self.format) as trial:
                _copy(trial, stream)
                trial.start_encoding()
        except (av.error.FFmpegError, ValueError):
            return False
        return True

    def _frames(
        self, segments: Sequence[Path], times: Sequence[int], stream: Any
    ) -> Iterator[tuple[Fraction, Any]]:
        """Yield the encoded frames, with when they are decoded, in seconds.

        Segments tell in what order frames are shown. Decoding is ahead of showing by as many frames
        as the one needs that is shown farthest from its turn; by how much time at the beginning is
        what is saved at the end, so that the video lasts as long as it did.
        """
        unit = self.clip.time_base
        shown = _order(segments)
        delay = max(place - rank for place, rank in enumerate(shown))
        before = [times[0] - (times[-2] - times[-2 - i]) for i in range(delay, 0, -1)]
        decoded = chain(before, times)
        packets = chain.from_iterable(map(_segment, segments))
        for rank, start, packet in zip(shown, decoded, packets, strict=False):
            packet.pts, packet.dts, packet.time_base = times[rank], start, unit
            packet.duration = times[rank + 1] - times[rank]
            packet.stream = stream
            yield start * unit, packet


def _order(segments: Sequence[Path]) -> list[int]:
    """Return, for the frames as they are encoded, their places in the order they are shown in."""
    order: list[int] = []
    for path in segments:
        times = [packet.pts for packet in _segment(path)]
        ranks = {time: rank for rank, time in enumerate(sorted(times), len(order))}
        order += [ranks[time] for time in times]
    return order


def _segment(path: Path) -> Iterator[Any]:
    with opened(path) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:  # the last is empty
                yield packet


def _packets(source: Any, copies: Mapping[int, Any]) -> Iterator[tuple[Fraction, Any]]:
    """Yield what is copied, with when it is decoded, in seconds."""
    wanted = [source.streams[index] for index in copies]
    if not wanted:
        return
    with closing(source.demux(wanted)) as packets:
        for packet in packets:
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                yield packet.dts * packet.time_base, packet


def _copy(container: Any, stream: Any) -> Any:
    """Return a stream of a container that holds what another one does."""
    copy = container.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def _kind(stream: Any) -> str:
    codec = stream.codec_context
    return stream.type if codec is None else f"{stream.type}, {codec.name}"
