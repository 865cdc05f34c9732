"""The charts of the page as PNG, by matplotlib."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ptqsr.errors import PtqsrError
from ptqsr.evaluation import fewest_and_most
from ptqsr.files import replacing
from ptqsr.reporting.bits import BitMap
from ptqsr.reporting.charts import drawn, heights
from ptqsr.reporting.distributions import Box, Distribution
from ptqsr.reporting.measure import Measured
from ptqsr.reporting.overview import RANKED
from ptqsr.reporting.report import Report
from ptqsr.reporting.views import View
from ptqsr.reporting.weights import Weights

COST, POINT, FILL, ACCENT = "#b8430d", "#c0168c", "#c9d3df", "#1a5fb4"


def check_figures() -> None:
    """Raise PtqsrError where `write_figures` lacks what it needs."""
    if find_spec("matplotlib") is None:
        raise PtqsrError('--figures needs matplotlib: pip install "ptqsr[chart]"')


def write_figures(
    report: Report, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Path]:
    """Write every chart under a folder, which is made; return the files.

    pictures-1.png and so on, and for each network a folder: cost.png, universal-set.png (DFSQ),
    bits-1.png (CADyQ), layers/NAME.png. Raises PtqsrError where one cannot be written.
    """
    jobs: dict[Path, Callable[[Any], None]] = {}
    for number, view in enumerate(report.views, 1):
        jobs[folder / f"pictures-{number}.png"] = _bind(_pictures, view, report.largest_error)
    for network in report.networks:
        place = folder / _file(network.subject.title)
        jobs[place / "cost.png"] = _bind(_cost, network)
        if network.usage is not None:
            jobs[place / "universal-set.png"] = _bind(_usage, network.usage.counts)
        for number, found in enumerate(network.bit_maps, 1):
            ends = fewest_and_most(network.subject.quantized)
            jobs[place / f"bits-{number}.png"] = _bind(_bits, found, ends)
        for name, distribution in network.distributions.items():
            weights = network.weights[name]
            jobs[place / "layers" / f"{_file(name)}.png"] = _bind(
                _layer, name, distribution, weights
            )
    # Names are no formulas.
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):
        _draw(jobs, progress)
    return list(jobs)


def _draw(jobs: Mapping[Path, Callable[[Any], None]], progress: Callable[[int, int], None]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for done, (path, draw) in enumerate(jobs.items(), 1):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PtqsrError(f"{path}: cannot be written ({error.strerror})") from None
        figure = Figure(layout="constrained", dpi=110)
        draw(figure)
        with replacing(path) as temporary:
            FigureCanvasAgg(figure).print_png(temporary)
        progress(done, len(jobs))


def _file(name: str) -> str:
    """Return a name as a file or folder may have it, which stays in the folder it is put in."""
    plain = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name)
    return plain if plain.strip(".") else "_"


def _bind(function: Callable[..., None], *arguments: Any) -> Callable[[Any], None]:
    return lambda figure: function(figure, *arguments)


def _cost(figure: Any, network: Measured) -> None:
    names = network.ranking[: 2 * RANKED]
    figure.set_size_inches(7, 0.28 * len(names) + 1.2)
    panel = figure.subplots()
    shares = [100 * network.sensitivities.share(name) for name in names]
    panel.barh(names, shares, color=COST)
    panel.invert_yaxis()
    panel.set_xlabel("per cent of the error of all layers, each quantized alone")
    panel.set_title(network.subject.title)
    panel.tick_params(labelsize=8)


def _layer(figure: Any, name: str, found: Distribution, weights: Weights) -> None:
    figure.set_size_inches(11, 8)
    (channels, samples), (ridges, before_after) = figure.subplots(2, 2)
    figure.suptitle(name)
    _box_plot(channels, found.channels)
    channels.set_title("channels of one crop")
    _box_plot(samples, found.samples)
    samples.set_title(f"channel {found.channel} in {len(found.samples)} crops")
    _ridge_plot(ridges, found)
    _weight_plot(before_after, weights)


def _box_plot(panel: Any, shown: Sequence[Box]) -> None:
    rows = [
        dict(zip(("whislo", "q1", "med", "q3", "whishi"), box.five, strict=True)) for box in shown
    ]
    places = list(range(len(shown)))
    style = {"facecolor": FILL}
    panel.bxp(
        rows,
        positions=[p - 0.2 for p in places],
        widths=0.36,
        showfliers=False,
        patch_artist=True,
        boxprops=style,
        medianprops={"color": "black"},
    )
    for place, box in zip(places, shown, strict=True):
        panel.hlines(drawn(box.levels), place + 0.05, place + 0.4, colors=POINT, lw=1)
    panel.set_xticks(places, [box.label for box in shown])


def _ridge_plot(panel: Any, found: Distribution) -> None:
    bins = len(found.ridges[0].counts)
    width = (found.high - found.low) / bins
    edges = [found.low + i * width for i in range(bins + 1)]
    for place, ridge in enumerate(found.ridges):
        tops = [0.8 * height - place for height in heights(ridge)]
        panel.stairs(tops, edges, baseline=-place, fill=True, color=FILL)
        panel.vlines(drawn(ridge.levels), -place - 0.1, -place + 0.25, colors=POINT, lw=1)
    ticks = [float(-place) for place in range(len(found.ridges))]
    labels = [ridge.label for ridge in found.ridges]
    if found.universal:
        panel.vlines(found.universal, 1.0, 1.4, colors="black", lw=0.6)
        ticks, labels = [1.2, *ticks], ["set", *labels]
    panel.set_yticks(ticks, labels)
    panel.set_title("(x - mean) / scale, with points" if found.universal else "levels")


def _weight_plot(panel: Any, weights: Weights) -> None:
    total = sum(weights.after) or 1
    after = [value / total for value in weights.after]
    factor = weights.level_width / weights.width / total
    coarse = [weights.low + (i + 0.5) * weights.level_width for i in range(len(after))]
    fine = [weights.low + i * weights.width for i in range(len(weights.before) + 1)]
    panel.bar(coarse, after, 0.6 * weights.level_width, color=ACCENT, label="after")
    panel.stairs([factor * n for n in weights.before], fine, color=COST, label="before")
    panel.legend()
    panel.set_title(f"weights in steps of their kernel, SQNR {weights.db:.1f} dB")


def _usage(figure: Any, usage: dict[float, int]) -> None:
    figure.set_size_inches(9, 3.2)
    panel = figure.subplots()
    panel.vlines(list(usage), 0, list(usage.values()), colors=ACCENT, lw=2)
    panel.set_xlabel("value of the universal set")
    panel.set_ylabel("channels that chose it")
    panel.set_ylim(bottom=0)


def _pictures(figure: Any, view: View, largest: float) -> None:
    columns = len(view.made) + len(view.errors)
    figure.set_size_inches(2.6 * columns, 3.2)
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for panel in panels:
        panel.set_axis_off()
    for panel, (who, picture) in zip(panels, view.made.items(), strict=False):
        panel.imshow(picture, interpolation="nearest")
        psnr = f"\n{view.psnr[who]:.2f} dB" if who in view.psnr else ""
        panel.set_title(f"{who}{psnr}", fontsize=9)
    for panel, (who, error) in zip(panels[len(view.made) :], view.errors.items(), strict=True):
        panel.imshow(error, cmap="inferno", vmin=0, vmax=largest, interpolation="nearest")
        panel.set_title(f"error of {who}\n0 to {largest:.0f} grey levels", fontsize=9)


def _bits(figure: Any, found: BitMap, candidates: tuple[int, int]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.patches import Rectangle

    height, width = found.picture.shape[:2]
    figure.set_size_inches(7, 1 + 6 * height / width)
    panel = figure.subplots()
    panel.imshow(found.picture)
    panel.set_axis_off()
    scale = ScalarMappable(cmap="coolwarm")
    scale.set_clim(*candidates)
    for cell in found.cells:
        wide, tall = cell.right - cell.left, cell.bottom - cell.top
        colour = scale.to_rgba(np.array([cell.bits]))[0]
        panel.add_patch(Rectangle((cell.left, cell.top), wide, tall, color=colour, alpha=0.45))
    figure.colorbar(scale, ax=panel, label="mean bits")
    panel.set_title(found.name)
