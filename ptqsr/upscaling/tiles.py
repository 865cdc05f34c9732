"""Tiles of a picture, and putting them together again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from ptqsr.images import to_uint8


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in input pixels.

    start..stop is its own; with what is blended into its neighbours it is kept_start..kept_stop;
    read_start..read_stop is what it is computed from.
    """

    start: int
    stop: int
    kept_start: int
    kept_stop: int
    read_start: int
    read_stop: int


def spans(length: int, tile: int | None, margin: int, blended: bool) -> list[Span]:
    """Return tiles of nearly equal size that cover an axis.

    Blended tiles share the inner half of their margins with their neighbours.
    """
    count = 1 if tile is None else -(-length // tile)
    ends = [round(i * length / count) for i in range(count + 1)]
    shared = min(margin // 2, (length // count) // 2) if blended else 0
    return [
        Span(
            start,
            stop,
            max(0, start - shared) if start else 0,
            min(length, stop + shared),
            max(0, start - margin),
            min(length, stop + margin),
        )
        for start, stop in pairwise(ends)
    ]


def weights(span: Span, scale: int) -> torch.Tensor:
    """Return what each output pixel of a tile counts, along one axis; neighbours add up to 1."""
    weight = torch.ones((span.kept_stop - span.kept_start) * scale)
    for shared, flip in ((span.start - span.kept_start, False), (span.kept_stop - span.stop, True)):
        width = 2 * shared * scale
        ramp = (torch.arange(width) + 0.5) / max(1, width)
        if flip:
            weight[len(weight) - width :] *= ramp.flip(0)
        else:
            weight[:width] *= ramp
    return weight


def assemble(
    rows: list[Span],
    columns: list[Span],
    scale: int,
    planes: int,
    make: Callable[[Span, Span], torch.Tensor],
) -> np.ndarray:
    """Return the picture, uint8 [scale H, scale W, planes], of float tiles in [0, 1].

    `make(row, column)` gives [planes, h, w] for the kept part of a tile. Tiles that are blended are
    held in floating point, one row of them at a time.
    """
    height, width = rows[-1].stop * scale, columns[-1].stop * scale
    out = np.empty((height, width, planes), np.uint8)
    if all(span.kept_stop == span.stop for span in (*rows, *columns)):
        for row in rows:
            for column in columns:
                place = slice(row.start * scale, row.stop * scale), _kept(column, scale)
                out[place] = _pixels(make(row, column))
        return out
    begun: torch.Tensor | None = None  # the rows that the next tiles add to
    for row, below in zip(rows, [*rows[1:], None], strict=True):
        band = torch.zeros((planes, (row.kept_stop - row.kept_start) * scale, width))
        if begun is not None:
            band[:, : begun.shape[1]] += begun
        down = weights(row, scale)[:, None]
        for column in columns:
            band[:, :, _kept(column, scale)] += make(row, column) * down * weights(column, scale)
        done = height if below is None else below.kept_start * scale
        finished = done - row.kept_start * scale
        out[row.kept_start * scale : done] = _pixels(band[:, :finished])
        begun = band[:, finished:].clone()
    return out


def _kept(span: Span, scale: int) -> slice:
    return slice(span.kept_start * scale, span.kept_stop * scale)


def _pixels(tile: torch.Tensor) -> np.ndarray:
    return to_uint8(tile).permute(1, 2, 0).numpy()
