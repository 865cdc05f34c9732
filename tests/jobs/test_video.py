"""Videos through networks."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import photograph, tiny_edsr
from torch import nn

from ptqsr import PtqsrError, models
from ptqsr.jobs import VideoSettings, parts_of
from ptqsr.upscaling import Planner, upscale

av = pytest.importorskip("av", reason='needs pip install "ptqsr[video]"')

from ptqsr.jobs.video import encoding, upscale_video  # noqa: E402
from ptqsr.jobs.video.clip import Clip  # noqa: E402
from ptqsr.jobs.video.colour import from_rgb, to_rgb  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

Clip_open = Clip.open
LOSSLESS = VideoSettings("ffv1")
UNIT = Fraction(1, 30000)
BT709, SMPTE170M = 1, 6


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "SEGMENT", 4)


class Nearest(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def write_video(
    path: Path,
    pictures: list[np.ndarray],
    *,
    codec: str = "ffv1",
    form: str = "yuv420p",
    times: list[int] | None = None,
    matrix: int = BT709,
    sound: str | None = None,
    turn: int = 0,
) -> Path:
    """Save pictures as a video, in BT.709 of limited range; sound is a sine of half a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(30000, 1001))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = form
        context = stream.codec_context
        context.time_base, context.sample_aspect_ratio = UNIT, Fraction(4, 3)
        context.color_range, context.colorspace = 1, matrix
        context.color_primaries, context.color_trc = 1, 1
        stream.set_display_rotation(turn)
        container.metadata["title"] = "a clip"
        audio = container.add_stream(sound, rate=8000, layout="mono") if sound else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(
                format=form, dst_colorspace=BT709, src_color_range="JPEG", dst_color_range="MPEG"
            )
            frame.time_base, frame.pts = UNIT, times[number] if times else 1001 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            wave = np.sin(np.arange(4096, dtype=np.float32) / 9)[None] / 2
            for start in range(0, 4096, 1024):
                piece = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[:, start : start + 1024]), "fltp", "mono"
                )
                piece.sample_rate, piece.pts, piece.time_base = 8000, start, Fraction(1, 8000)
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def moving(count: int, height: int = 18, width: int = 26) -> list[np.ndarray]:
    return [photograph(height, width + count, 0)[:, n : n + width].copy() for n in range(count)]


def make(source: Path, target: Path, network: Any = None, **options: Any) -> Any:
    network = network or tiny_edsr()
    options = {"settings": LOSSLESS, "job": {}, "ahead": 2} | options
    return upscale_video(network, Planner(network), source, target, **options)


def frames(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("ahead", [0, 3])
def test_every_frame_goes_through_the_network(tmp_path: Path, ahead: int) -> None:
    """As pictures do, to the bit, whether stages overlap or not."""
    source = write_video(tmp_path / "a.mkv", moving(9))
    shown: list[tuple[int, int]] = []
    made = make(source, tmp_path / "b.mkv", ahead=ahead, progress=lambda *what: shown.append(what))
    colours, network = Clip.open(source).colours, tiny_edsr()
    wanted = [upscale(network, to_rgb(frame, colours)) for frame in frames(source)]
    found = frames(tmp_path / "b.mkv")
    for frame, rgb in zip(found, wanted, strict=True):
        assert np.array_equal(frame.to_ndarray(), from_rgb(rgb, "yuv420p", colours).to_ndarray())
    assert (made.frames, made.there) == (9, 0) and shown[-1] == (9, 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "b.mkv"]


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_times_sound_and_properties_stay(tmp_path: Path, codec: str, even: bool) -> None:
    """Frames may follow each other unevenly, begin late, and are decoded in another order."""
    times = [5005 + 1001 * (n if even else n + n // 3) for n in range(11)]
    source = write_video(
        tmp_path / "a.mp4", moving(11, 36, 48), codec="libx264", times=times, sound="aac"
    )
    target = tmp_path / "b.mp4"
    make(source, target, settings=VideoSettings.of(codec, ["preset=fast"]))

    def facts(path: Path) -> dict[str, Any]:
        with av.open(str(path)) as container:
            video, sound = container.streams
            context = video.codec_context
            packets = [p for p in container.demux() if p.dts is not None]
            return {
                "frames": (video.frames, video.base_rate, video.time_base, video.start_time),
                # Where frames are uneven, a file may leave out how long the last one is shown.
                "lasts": (video.average_rate, video.duration) if even else None,
                "pixel": video.sample_aspect_ratio,
                "colours": (context.color_range, context.colorspace),
                "more colours": (context.color_primaries, context.color_trc),
                "shown": sorted(p.pts for p in packets if p.stream_index == 0),
                "sound": [(p.pts, bytes(p)) for p in packets if p.stream_index == 1],
                "format": (sound.codec_context.name, sound.time_base, sound.duration),
                "title": container.metadata["title"],
            }

    here, there = facts(source), facts(target)
    assert here == there and len(here["sound"]) > 3
    with av.open(str(target)) as container:
        decoded = [p.dts for p in container.demux(video=0) if p.dts is not None]
    assert decoded == sorted(set(decoded)) and len(decoded) == 11
    large = frames(target)
    assert [frame.pts for frame in large] == [frame.pts for frame in frames(source)]
    assert (large[0].width, large[0].height) == (96, 72)


@pytest.mark.parametrize(
    ("form", "size", "wanted"),
    [
        ("yuv420p", (15, 17), "yuv444p"),
        ("yuv422p", (15, 18), "yuv422p"),
        ("yuv444p", (16, 18), "yuv444p"),
        ("bgr0", (16, 18), "yuv444p"),
        ("gray", (16, 18), "yuv420p"),
        ("yuv420p", (2, 2), "yuv420p"),
    ],
    ids=str,
)
def test_sizes_and_formats(tmp_path: Path, form: str, size: tuple[int, int], wanted: str) -> None:
    """Three times an odd size is odd: colours then have no fewer pixels than luma."""
    source = write_video(tmp_path / "a.mkv", moving(2, *size), form=form)
    torch.manual_seed(0)
    network = models.build("edsr", scale=3, weights=None, blocks=1, width=8)
    make(source, tmp_path / "b.mp4", network, settings=VideoSettings.of("libx264", []))
    large = frames(tmp_path / "b.mp4")
    assert [(f.height, f.width) for f in large] == [(3 * size[0], 3 * size[1])] * 2
    assert large[0].format.name == wanted


@pytest.mark.parametrize("form", ["yuv420p", "yuv420p10le", "yuvj420p", "bgr0"])
@pytest.mark.parametrize("matrix", [BT709, SMPTE170M, 2], ids=["709", "601", "unknown"])
def test_colours_are_what_they_were(
    tmp_path: Path, form: str, matrix: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Flat ones, which no chroma filter changes; what was unknown is said in the result."""
    colours = [(200, 30, 60), (20, 180, 90), (128, 128, 128), (255, 255, 255), (0, 0, 0)]
    pictures = [np.full((16, 16, 3), colour, np.uint8) for colour in colours]
    coded = SMPTE170M if matrix == 2 else matrix
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = form.replace("yuvj", "yuv")
        full = form == "yuvj420p"
        context = stream.codec_context
        context.color_range = 2 if full else 1
        if form != "bgr0":
            context.colorspace = matrix
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(
                format=stream.pix_fmt,
                dst_colorspace=1 if coded == BT709 else 5,
                src_color_range="JPEG",
                dst_color_range="JPEG" if full else "MPEG",
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    make(path, tmp_path / "b.mkv", models.wrap(Nearest(), scale=2))
    clip = Clip.open(tmp_path / "b.mkv")
    assert clip.colours.matrix == (SMPTE170M if form == "bgr0" else coded)
    assert clip.colours.range == (2 if full else 1)
    for frame, colour in zip(frames(tmp_path / "b.mkv"), colours, strict=True):
        assert np.abs(to_rgb(frame, clip.colours).astype(int) - colour).max() <= 5
    said = f"{path}: has 10 bits a channel, of which 8 are used"
    assert (said in caplog.text) == (form == "yuv420p10le")


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_runs_are_alike(tmp_path: Path, codec: str) -> None:
    """To the byte, of noise too, with a frame alone in its segment, and on fewer processors."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (80, 120, 3), np.uint8) for _ in range(13)]
    source = write_video(tmp_path / "a.mkv", noise)
    processors = os.sched_getaffinity(0)
    try:
        for name, some in (("b.mkv", processors), ("c.mkv", {min(processors)})):
            os.sched_setaffinity(0, some)
            network = models.wrap(Nearest(), scale=2)
            make(source, tmp_path / name, network, settings=VideoSettings.of(codec, []))
    finally:
        os.sched_setaffinity(0, processors)
    assert (tmp_path / "b.mkv").read_bytes() == (tmp_path / "c.mkv").read_bytes()
    assert [frame.pts for frame in frames(tmp_path / "b.mkv")] == [
        frame.pts for frame in frames(source)
    ]


def test_turned_videos_are_upright(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", moving(2, 16, 24), codec="libx264", turn=90)
    lossy = VideoSettings.of("libx264", [])
    make(source, tmp_path / "b.mkv", models.wrap(Nearest(), scale=2), settings=lossy)
    large, clip = frames(tmp_path / "b.mkv")[0], Clip.open(tmp_path / "b.mkv")
    assert (large.height, large.width, large.rotation) == (48, 32, 0)
    stored = to_rgb(frames(source)[0], clip.colours)
    upright = np.rot90(stored).repeat(2, 0).repeat(2, 1).astype(int)
    assert np.abs(to_rgb(large, clip.colours) - upright).mean() < 12
    assert clip.pixel == Fraction(3, 4)


def test_pixels_that_the_result_cannot_tell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_video(tmp_path / "a.mp4", moving(1), codec="libx264")
    make(source, tmp_path / "b.mkv")
    assert f"{source}: its pixels are not square (4/3), which ffv1 in .mkv does not" in caplog.text


class Stopping(Nearest):
    """Is interrupted at a frame; counts the frames that it enlarges. `wrap` runs it, too."""

    at, seen = -1, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "meta":
            self.seen += 1
            if self.seen == self.at:
                raise KeyboardInterrupt
        return super().forward(x)


@pytest.mark.parametrize("at", [1, 6, 11])
def test_an_interrupted_video_goes_on(tmp_path: Path, at: int) -> None:
    """With the segment that was not finished, to the bytes of an undisturbed run."""
    source = write_video(tmp_path / "a.mp4", moving(11), codec="libx264", sound="aac")
    lossy = VideoSettings.of("libx264", ["preset=ultrafast"])
    make(source, tmp_path / "whole.mp4", models.wrap(Nearest(), scale=2), settings=lossy)
    network, target = models.wrap(inner := Stopping(), scale=2), tmp_path / "b.mp4"
    inner.at, inner.seen = at, 0
    with pytest.raises(KeyboardInterrupt):
        make(source, target, network, settings=lossy)
    finished = (at - 1) // 4 * 4
    assert not target.exists() and parts_of(target).exists() == (finished > 0)
    assert not list(tmp_path.rglob(".*.nut.*"))
    inner.seen, inner.at = 0, -1
    made = make(source, target, network, settings=lossy)
    assert (made.frames, made.there, inner.seen) == (11, finished, 11 - finished)
    assert target.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert not parts_of(target).exists()


def test_parts_of_another_job_are_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", moving(9))
    target = tmp_path / "b.mkv"
    network = models.wrap(inner := Stopping(), scale=2)
    inner.at, inner.seen = 7, 0
    with pytest.raises(KeyboardInterrupt):
        make(source, target, network, job={"checkpoint": "abc"})
    inner.at = -1
    with pytest.raises(PtqsrError, match="is of a job with checkpoint abc, not x; give what"):
        make(source, target, network, job={"checkpoint": "x"})
    with pytest.raises(PtqsrError, match="is of a job with codec ffv1, not libx264"):
        make(source, target, network, job={"checkpoint": "abc"}, settings=VideoSettings())
    source.write_bytes(source.read_bytes())
    with pytest.raises(PtqsrError, match="is of a job with source"):
        make(source, target, network, job={"checkpoint": "abc"})
    assert parts_of(target).exists()
    made = make(source, target, network, job={"checkpoint": "x"}, anew=True)
    assert (made.frames, made.there) == (9, 0) and not parts_of(target).exists()


def test_streams_that_do_not_fit_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_video(tmp_path / "a.mkv", moving(3), sound="aac")
    make(source, tmp_path / "b.webm", settings=VideoSettings("libvpx-vp9"))
    with av.open(str(tmp_path / "b.webm")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    assert f"{source}: stream 1 (audio, aac) does not fit into .webm and is left out" in caplog.text


def break_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


WRONG: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "no video": (lambda path: path.write_bytes(b"text"), {}, "cannot be read as a video (Invalid"),
    "broken": (break_off, {}, "a.mkv: "),
    "mov": (bool, {"target": "b.mov"}, "--codec ffv1: does not go into mov; name the output .mkv"),
    "no codec": (bool, {"settings": VideoSettings("h999")}, "--codec h999: this PyAV has no such"),
    "sound": (bool, {"settings": VideoSettings("aac")}, "--codec aac: encodes no video"),
    "option": (
        bool,
        {"settings": VideoSettings("ffv1", (("crf", "3"),))},
        "--codec-option crf: ffv1 has no such option",
    ),
    "value": (
        bool,
        {"settings": VideoSettings("libx264", (("crf", "x"),))},
        "b.mkv: cannot be encoded (Invalid argument",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_refused(tmp_path: Path, wrong: str) -> None:
    """Before the work, in one line, and nothing is left."""
    source = write_video(tmp_path / "a.mkv", moving(2))
    spoil, given, named = WRONG[wrong]
    options = dict(given)
    spoil(source)
    with pytest.raises(PtqsrError) as error:
        make(source, tmp_path / options.pop("target", "b.mkv"), **options)
    assert named in str(error.value) and "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_a_changing_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_video(tmp_path / "a.mkv", moving(3))
    monkeypatch.setattr(Clip, "open", lambda path: replace(Clip_open(path), width=28))
    with pytest.raises(PtqsrError, match="frame 0 is 26x18, those before 28x18; cut the video"):
        make(source, tmp_path / "b.mkv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]
