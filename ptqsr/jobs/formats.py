"""Which files are videos, and how videos are written."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ptqsr.errors import PtqsrError

INSTALL = 'pip install "ptqsr[video]"'
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm"),
    *(".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv"),
)
# FFmpeg's names of the containers that are written.
CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
# In folders, files of other containers become .mkv, which holds whatever is copied.
KEPT = (".mp4", ".m4v", ".mov", ".mkv")
QUALITY = {"libx264": "16", "libx265": "18"}


@dataclass(frozen=True)
class VideoSettings:
    """An encoder by FFmpeg's name, and options of its own; by default nearly without loss."""

    codec: str = "libx264"
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, codec: str, options: list[str]) -> VideoSettings:
        """Return the settings of `--codec` and of each `--codec-option NAME=VALUE`."""
        found = {"crf": QUALITY[codec]} if codec in QUALITY else {}
        for option in options:
            name, equals, value = option.partition("=")
            if not (name and equals and value):
                raise PtqsrError(f"--codec-option {option}: give one as crf=18 or preset=slow")
            found[name] = value
        return cls(codec, tuple(sorted(found.items())))

    def to_json(self) -> dict[str, Any]:
        return {"codec": self.codec, "options": dict(self.options)}


def parts_of(target: Path) -> Path:
    """Return the folder that holds a video's finished segments while it is made."""
    return target.with_name(f".{target.name}.parts")


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def have_video() -> bool:
    """Return whether videos can be read and written here."""
    return find_spec("av") is not None


def check_video(path: Path) -> None:
    """Raise PtqsrError where no video can be written there, or none at all."""
    if not have_video():
        raise PtqsrError(f"{path}: videos need PyAV: {INSTALL}")
    if path.suffix.lower() not in CONTAINERS:
        raise PtqsrError(f"{path}: videos are written as {', '.join(CONTAINERS)}")
