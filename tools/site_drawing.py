"""How the pictures of docs/how-dfsq-works.md look; tools/site_pictures.py has what they show.

A picture is two SVG files, for light and for dark pages: the same bytes whenever it is drawn.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ["SOURCE_DATE_EPOCH"] = "0"

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

OTHERS, POINTS, VALUES = "#d1603d", "#7a6ff0", "#8a94a6"
METHODS = {
    "MinMax": OTHERS,
    "percentile": "#b8860b",
    "DFSQ, k-means": "#3a8fb7",
    "DFSQ, optimal": POINTS,
}
THEMES = {"light": "#3b3f46", "dark": "#c9cdd6"}  # of text and lines
WIDTH = 5  # inches, of 72 pixels: a phone's width

Draw = Callable[[Figure], None]


def normalisation(sample: torch.Tensor, normalised: torch.Tensor, levels: torch.Tensor) -> Draw:
    """Boxes of the channels [C, H, W] of one sample, before and after; levels across."""

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True)
        _lines(above, levels, 0.3, len(sample) + 0.7, OTHERS, 0.6, across=True)
        _boxes(above, sample)
        _boxes(below, normalised)
        above.set_ylabel("as they come")
        below.set_ylabel("normalised")
        below.set_xlabel("channel")

    return draw


def sets(rows: Mapping[str, tuple[torch.Tensor, str]]) -> Draw:
    """Sets of values in [-1, 1], a row of ticks each, in its colour."""

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        for place, (values, colour) in enumerate(rows.values()):
            _lines(panel, values, place - 0.3, place + 0.3, colour, 1.1)
        panel.set_yticks(range(len(rows)), list(rows))
        panel.invert_yaxis()
        panel.set_xlabel("normalised value")

    return draw


def distributions(counts: Mapping[str, torch.Tensor], points: Mapping[str, torch.Tensor]) -> Draw:
    """How often values in [-1, 1] occur (counts [BINS]), and the points chosen for them."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(counts), 1, sharex=True)
        for panel, (name, count) in zip(panels, counts.items(), strict=True):
            # Of a ReLU's output most is 0: a bar that would leave nothing to see of the others.
            share = (count / count.sort().values[-3]).clamp(max=1)
            edges = torch.linspace(-1, 1, len(share) + 1)
            panel.stairs(share, edges, fill=True, color=VALUES, alpha=0.75)
            _lines(panel, points[name], 0, 1.05, POINTS, 1)
            panel.set_ylabel(name)
            panel.set_yticks([])
        panels[-1].set_xlabel("normalised value")

    return draw


def errors(found: Mapping[str, list[float]]) -> Draw:
    """SQNR of what every layer reads, by method: the first and the second layer of every block."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, 1, sharex=True)
        labels = ("first convolution", "second, after ReLU")
        for which, (panel, label) in enumerate(zip(panels, labels, strict=True)):
            for name, decibels in found.items():
                panel.plot(decibels[which::2], color=METHODS[name], label=name)
            panel.set_ylabel(f"{label}\nSQNR, dB")
        panels[-1].set_xlabel("residual block")
        legend = panels[0].get_legend_handles_labels()
        figure.legend(*legend, loc="outside upper center", ncols=2, frameon=False)

    return draw


def write(stem: Path, draw: Draw, height: float) -> None:
    """Draw a picture once for every theme: `stem`-light.svg and `stem`-dark.svg."""
    for theme, colour in THEMES.items():
        keys = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
        settings = {
            **dict.fromkeys(keys, colour),
            "font.size": 9,
            "svg.hashsalt": stem.name,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.facecolor": "none",
        }
        with matplotlib.rc_context(settings):
            figure = Figure(figsize=(WIDTH, height), layout="constrained")
            draw(figure)
            text = io.StringIO()
            FigureCanvasSVG(figure).print_figure(text, format="svg", facecolor="none")
        path = stem.with_name(f"{stem.name}-{theme}.svg")
        path.write_text(_shorter(text.getvalue()), encoding="utf-8")
        print(f"{path}: {path.stat().st_size / 1024:.0f} kB")


def _boxes(panel: Axes, sample: torch.Tensor) -> None:
    """Draw the middle halves of channels, and lines to the smallest and the largest value."""
    line = {"color": POINTS, "lw": 1}
    panel.boxplot(
        list(sample.flatten(1).numpy()),
        whis=(0, 100),
        widths=0.55,
        patch_artist=True,
        boxprops={"facecolor": POINTS, "edgecolor": POINTS, "alpha": 0.55},
        capprops=line,
        whiskerprops=line,
        medianprops={"color": matplotlib.rcParams["text.color"], "lw": 1.2},
    )
    panel.set_xticks([])


def _lines(
    panel: Axes,
    places: torch.Tensor,
    low: float,
    high: float,
    colour: str,
    width: float,
    across: bool = False,
) -> None:
    """Draw parallel lines from low to high, upright or across, as one path."""
    ends = torch.tensor([low, high, torch.nan]).repeat(len(places))
    along = torch.as_tensor(places).repeat_interleave(3)
    panel.plot(*(ends, along) if across else (along, ends), color=colour, lw=width)


def _shorter(svg: str) -> str:
    """Return an SVG without what no one sees."""
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.5g}", svg)
    return re.sub(r"\s+", " ", svg).replace("> <", "><") + "\n"
