"""Tiles cover a picture, read inside it, and blend without gain or loss."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptqsr.upscaling.tiles import Span, assemble, spans, weights

lengths = st.integers(1, 300)
tiles = st.none() | st.integers(1, 80)
margins = st.integers(0, 50)
scales = st.integers(1, 4)


@settings(deadline=None)
@given(lengths, tiles, margins, st.booleans())
def test_spans_cover_an_axis(length: int, tile: int | None, margin: int, blended: bool) -> None:
    found = spans(length, tile, margin, blended)
    assert found[0].start == found[0].kept_start == found[0].read_start == 0
    last = found[-1]
    assert last.stop == last.kept_stop == last.read_stop == length
    for one, two in pairwise(found):
        assert one.stop == two.start
        # Both keep as much of the other, and nobody anything of the one after.
        assert one.kept_stop - one.stop == two.start - two.kept_start
    for one, _, three in zip(found, found[1:], found[2:], strict=False):
        assert one.kept_stop <= three.kept_start
    sizes = [span.stop - span.start for span in found]
    assert max(sizes) - min(sizes) <= 1
    assert tile is None or max(sizes) <= tile
    for span in found:
        assert 0 <= span.read_start <= span.kept_start <= span.start < span.stop
        assert span.stop <= span.kept_stop <= span.read_stop <= length
        assert span.read_start == max(0, span.start - margin)
        assert span.read_stop == min(length, span.stop + margin)
        # What is kept beside the tile itself is as far from the end of what is read.
        assert span.kept_start - span.read_start >= span.start - span.kept_start or not blended
        assert blended or (span.kept_start, span.kept_stop) == (span.start, span.stop)


def test_blended_tiles_share_the_inner_half_of_their_margins() -> None:
    assert spans(96, 32, 9, True)[1] == Span(32, 64, 28, 68, 23, 73)
    assert spans(96, 32, 9, False)[1] == Span(32, 64, 32, 64, 23, 73)
    # Where margins are wider than tiles: no more than half of a tile.
    assert spans(20, 5, 60, True)[1] == Span(5, 10, 3, 12, 0, 20)


@settings(deadline=None)
@given(lengths, tiles, margins, scales)
def test_weights_add_up_to_one(length: int, tile: int | None, margin: int, scale: int) -> None:
    total = torch.zeros(length * scale)
    for span in spans(length, tile, margin, True):
        weight = weights(span, scale)
        assert ((weight > 0) & (weight <= 1)).all()
        total[span.kept_start * scale : span.kept_stop * scale] += weight
    assert (total - 1).abs().max() < 1e-6


def test_weights_are_ramps() -> None:
    first, second = spans(12, 6, 4, True)
    ramp = torch.tensor([1, 3, 5, 7, 9, 11, 13, 15]) / 16
    assert torch.equal(weights(first, 2), torch.cat((torch.ones(8), ramp.flip(0))))
    assert torch.equal(weights(second, 2), torch.cat((ramp, torch.ones(8))))


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(4, 20),
    st.integers(0, 12),
    st.booleans(),
    scales,
)
def test_assembled_tiles_are_the_picture(
    size: tuple[int, int], tile: int, margin: int, blended: bool, scale: int
) -> None:
    """Of tiles that agree where they overlap, whatever their sizes."""
    height, width = size
    levels = np.random.default_rng(0).integers(0, 256, (height * scale, width * scale, 3), np.uint8)
    picture = torch.from_numpy(levels).permute(2, 0, 1) / 255

    def make(row: Span, column: Span) -> torch.Tensor:
        down = slice(row.kept_start * scale, row.kept_stop * scale)
        across = slice(column.kept_start * scale, column.kept_stop * scale)
        return picture[:, down, across]

    rows, columns = (spans(length, tile, margin, blended) for length in size)
    assert np.array_equal(assemble(rows, columns, scale, 3, make), levels)


def test_tiles_that_differ_are_blended() -> None:
    """From 0 to 1 in as many steps as the overlap has pixels, no step larger."""
    rows, columns = spans(4, None, 8, True), spans(40, 20, 8, True)

    def make(row: Span, column: Span) -> torch.Tensor:
        shape = (3, row.kept_stop - row.kept_start, column.kept_stop - column.kept_start)
        return torch.full(shape, float(column.start > 0))

    line = assemble(rows, columns, 1, 3, make)[0, :, 0].astype(int)
    assert (line[:16] == 0).all() and (line[24:] == 255).all()
    assert np.diff(line[15:25]).max() <= 255 / 8 + 1 and (np.diff(line[15:25]) > 0).all()
