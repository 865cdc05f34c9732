"""What charts are made of: axes with round numbers, lines, areas, marks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ptqsr.reporting.markup import Markup, element, plain

# In units of the drawing, of which a telephone shows about one a pixel.
WIDTH = 360.0


@dataclass(frozen=True)
class Axis:
    """Maps values from `low` to `high` to places from `start` to `stop`."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self, about: int = 4) -> list[float]:
        """Return round numbers inside, about so many, steps of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def axis(low: float, high: float, start: float, stop: float) -> Axis:
    """Return an axis, of some width also where the values have none."""
    if not high > low:
        half = max(0.5, abs(low) / 1000)
        low, high = low - half, low + half
    return Axis(low, high, start, stop)


def number(value: float) -> str:
    """Return a tick's label: 0.05, -1.5, 200."""
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def drawing(height: float, label: str, *children: str) -> Markup:
    """Return a picture that a screen reader calls by its label."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {plain(WIDTH)} {plain(height)}",
        role="img",
        aria_label=label,
        class_="chart",
    )


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Markup:
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def path(commands: str, class_: str) -> Markup:
    return element("path", d=commands, class_=class_)


def lines(segments: Iterable[tuple[float, float, float, float]], class_: str) -> Markup:
    """Return horizontal and vertical lines (x1, y1, x2, y2), all of them one path."""
    made = []
    for x1, y1, x2, y2 in segments:
        to = f"H{_short(x2)}" if y1 == y2 else f"V{_short(y2)}"
        made.append(f"M{_short(x1)} {_short(y1)}{to}")
    return path("".join(made), class_)


def boxes(rectangles: Iterable[tuple[float, float, float, float]], class_: str) -> Markup:
    """Return filled rectangles (left, top, right, bottom), all of them one path."""
    made = (
        f"M{_short(x1)} {_short(y1)}H{_short(x2)}V{_short(y2)}H{_short(x1)}z"
        for x1, y1, x2, y2 in rectangles
    )
    return path("".join(made), class_)


def steps(edges: Sequence[float], tops: Sequence[float], base: float, class_: str) -> Markup:
    """Return the filled outline of a histogram: bin i from edges[i] to edges[i + 1]."""
    made = [f"M{_short(edges[0])} {_short(base)}"]
    for top, right in zip(tops, edges[1:], strict=True):
        made.append(f"V{_short(top)}H{_short(right)}")
    return path("".join(made) + f"V{_short(base)}z", class_)


def grid_y(y: Axis, left: float, right: float, about: int = 4) -> list[Markup]:
    """Return lines and numbers of a vertical axis at the left."""
    ticks = y.ticks(about)
    made = [lines(((left, y(t), right, y(t)) for t in ticks), "grid")]
    return made + [text(left - 5, y(t) + 4, number(t), anchor="end") for t in ticks]


def grid_x(x: Axis, top: float, bottom: float, about: int = 5) -> list[Markup]:
    """Return lines and numbers of a horizontal axis below."""
    ticks = x.ticks(about)
    made = [lines(((x(t), top, x(t), bottom) for t in ticks), "grid")]
    return made + [text(x(t), bottom + 14, number(t), anchor="middle") for t in ticks]


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
