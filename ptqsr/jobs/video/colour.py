"""Between a video's colours and RGB."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation

from ptqsr.errors import PtqsrError

# Chroma between its samples and rounding as exact as swscale can, on every machine alike: its
# flags FULL_CHR_H_INT, FULL_CHR_H_INP, ACCURATE_RND, BITEXACT, which older PyAVs have no names for.
EXACT = int(Interpolation.BICUBIC) | 0x2000 | 0x4000 | 0x40000 | 0x80000
# Of the numbers of matrices in H.273, which files have: those of RGB, of unknown, of BT.709, of
# BT.601; and, of all that are read, swscale's own.
RGB, UNKNOWN, BT709, SMPTE170M = 0, 2, 1, 6
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
HD = 720  # rows from which players take colours of unknown matrix as BT.709


@dataclass(frozen=True)
class Colours:
    """How YCbCr is to be read, in the numbers of H.273.

    What a file does not say is what players take for its size: the enlarged video says it, because
    its own size may suggest another.
    """

    matrix: int
    range: ColorRange
    primaries: int
    transfer: int

    @classmethod
    def of(cls, frame: Any, path: Path) -> Colours:
        """Return a frame's; raises PtqsrError for a matrix that is not read."""
        matrix, full = int(frame.colorspace), frame.format.name.startswith("yuvj")
        if matrix in (RGB, UNKNOWN):
            matrix = BT709 if frame.height >= HD else SMPTE170M
        if matrix not in MATRICES:
            raise PtqsrError(f"{path}: its colours (matrix {matrix} of H.273) are not read")
        given = ColorRange(int(frame.color_range))
        if frame.format.is_rgb or given not in (ColorRange.MPEG, ColorRange.JPEG):
            given = ColorRange.JPEG if full else ColorRange.MPEG
        return cls(matrix, given, int(frame.color_primaries), int(frame.color_trc))

    def tag(self, codec: Any) -> None:
        """Have an encoder say it."""
        codec.colorspace, codec.color_range = self.matrix, int(self.range)
        codec.color_primaries, codec.color_trc = self.primaries, self.transfer


def to_rgb(frame: Any, colours: Colours) -> np.ndarray:
    """Return a frame as uint8 [H, W, 3]."""
    source = {} if frame.format.is_rgb else _side("src", colours)
    return frame.to_ndarray(
        format="rgb24", interpolation=EXACT, dst_color_range=ColorRange.JPEG, **source
    )


def from_rgb(rgb: np.ndarray, form: str, colours: Colours) -> Any:
    """Return a frame of a pixel format, of uint8 [H, W, 3]."""
    return av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
        format=form,
        interpolation=EXACT,
        src_color_range=ColorRange.JPEG,
        **_side("dst", colours),
    )


def _side(name: str, colours: Colours) -> dict[str, Any]:
    return {f"{name}_colorspace": MATRICES[colours.matrix], f"{name}_color_range": colours.range}
