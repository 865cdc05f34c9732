"""The charts of one layer, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from ptqsr.reporting.distributions import Box, Distribution, Ridge
from ptqsr.reporting.markup import Markup
from ptqsr.reporting.svg import (
    WIDTH,
    axis,
    boxes,
    drawing,
    grid_x,
    grid_y,
    lines,
    number,
    steps,
    text,
)
from ptqsr.reporting.weights import Weights

# More levels than these would be one grey surface.
DRAWN_LEVELS = 40
LEFT, RIGHT = 46.0, WIDTH - 6


def box_plot(shown: Sequence[Box], below: str, label: str) -> Markup:
    """Return boxes side by side: whiskers to minimum and maximum, quartiles, median, levels."""
    top, bottom = 8.0, 214.0
    values = [value for box in shown for value in (*box.five, *drawn(box.levels))]
    y = axis(min(values), max(values), bottom, top)
    slot = (RIGHT - LEFT) / len(shown)
    half, wide = min(slot * 0.24, 13), min(slot * 0.19, 11)
    whiskers, quartiles, medians, levels = [], [], [], []
    names = []
    for place, box in enumerate(shown):
        # The box, and its levels beside it.
        centre = LEFT + (place + 0.5) * slot
        middle, beside = centre - wide - 1, centre + half + 1
        low, first, median, third, high = map(y, box.five)
        whiskers += [(middle, low, middle, first), (middle, third, middle, high)]
        whiskers += [(middle - half / 2, end, middle + half / 2, end) for end in (low, high)]
        quartiles.append((middle - half, third, middle + half, first))
        medians.append((middle - half, median, middle + half, median))
        levels += [(beside - wide, y(v), beside + wide, y(v)) for v in drawn(box.levels)]
        names.append(text(centre, bottom + 14, box.label, anchor="middle"))
    return drawing(
        bottom + 34,
        label,
        *grid_y(y, LEFT, RIGHT, 5),
        lines(whiskers, "whisker"),
        boxes(quartiles, "box"),
        lines(levels, "level"),
        lines(medians, "median"),
        *names,
        text((LEFT + RIGHT) / 2, bottom + 30, below, anchor="middle"),
    )


def ridge_plot(found: Distribution, below: str, label: str) -> Markup:
    """Return a histogram for each channel, one over the other, with its levels below each."""
    row, first = 16.0, 30.0 if found.universal else 8.0
    bottom = first + row * len(found.ridges) + 6
    x = axis(found.low, found.high, LEFT, RIGHT)
    edges = [
        LEFT + (RIGHT - LEFT) * i / len(found.ridges[0].counts)
        for i in range(len(found.ridges[0].counts) + 1)
    ]
    made = grid_x(x, first - 4, bottom)
    if found.universal:
        made += [
            text(LEFT - 5, 16, "set", anchor="end"),
            lines(((x(v), 8.0, x(v), 17.0) for v in found.universal), "universal"),
        ]
    for place, ridge in enumerate(found.ridges):
        base = first + row * (place + 1)
        tops = [base - (row - 3) * height for height in heights(ridge)]
        made += [
            steps(edges, tops, base, "area"),
            lines(((x(v), base - 5, x(v), base + 2) for v in drawn(ridge.levels)), "level"),
            text(LEFT - 5, base, ridge.label, anchor="end"),
        ]
    made.append(text((LEFT + RIGHT) / 2, bottom + 30, below, anchor="middle"))
    return drawing(bottom + 34, label, *made)


def heights(ridge: Ridge) -> list[float]:
    """Return the heights of a ridge's bins, 1 the highest: roots, as zeros of a ReLU are many."""
    tallest = max(ridge.counts) or 1
    return [(count / tallest) ** 0.5 for count in ridge.counts]


def weight_plot(weights: Weights, label: str) -> Markup:
    """Return the weights before as an outline, after as bars, in shares of all."""
    top, bottom = 8.0, 214.0
    count = len(weights.after)
    stop = weights.low + count * weights.level_width
    x = axis(weights.low, stop, LEFT, RIGHT)
    total = sum(weights.after) or 1
    # As many weights lie under either: a bin's height is its weights per level's width.
    factor = weights.level_width / weights.width
    before = [value * factor / total for value in weights.before]
    after = [value / total for value in weights.after]
    y = axis(0, max(*before, *after), bottom, top)
    fine = [weights.low + i * weights.width for i in range(len(before) + 1)]
    width = weights.level_width
    bars = [
        (x(weights.low + (i + 0.2) * width), y(v), x(weights.low + (i + 0.8) * width), bottom)
        for i, v in enumerate(after)
        if v
    ]
    ticks = [text(LEFT - 5, y(t) + 4, f"{100 * t:.3g} %", anchor="end") for t in y.ticks(3)]
    return drawing(
        bottom + 34,
        label,
        lines(((LEFT, y(t), RIGHT, y(t)) for t in y.ticks(3)), "grid"),
        *ticks,
        boxes(bars, "bar"),
        steps([x(edge) for edge in fine], [y(v) for v in before], bottom, "outline"),
        *(text(x(t), bottom + 14, number(t), anchor="middle") for t in x.ticks(6)),
        text((LEFT + RIGHT) / 2, bottom + 30, "weight, in steps of its kernel", anchor="middle"),
    )


def usage_plot(usage: dict[float, int], label: str) -> Markup:
    """Return bars: how many channels chose each value of the universal set."""
    top, bottom = 8.0, 130.0
    x = axis(-1.02, 1.02, LEFT, RIGHT)
    y = axis(0, max(usage.values()) or 1, bottom, top)
    wide = max(0.6, min(2.4, 0.35 * (RIGHT - LEFT) / len(usage)))
    bars = [(x(v) - wide / 2, y(n), x(v) + wide / 2, bottom) for v, n in usage.items() if n]
    unused = [(x(v), bottom + 1, x(v), bottom + 5) for v, n in usage.items() if not n]
    return drawing(
        bottom + 36,
        label,
        *grid_y(y, LEFT, RIGHT, 3),
        boxes(bars, "bar"),
        lines(unused, "level"),
        *(text(x(t), bottom + 17, number(t), anchor="middle") for t in x.ticks(5)),
        text((LEFT + RIGHT) / 2, bottom + 32, "value of the universal set", anchor="middle"),
    )


def drawn(levels: Sequence[float]) -> Sequence[float]:
    """Return the levels that are drawn: all, or the ends of very many."""
    return levels if len(levels) <= DRAWN_LEVELS else (levels[0], levels[-1])
