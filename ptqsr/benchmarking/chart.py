"""A picture of the figures."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ptqsr.benchmarking.run import Record
from ptqsr.errors import PtqsrError
from ptqsr.files import check_writable, replacing

BAR_INCHES, WIDTH_INCHES = 0.3, 8.0


def check_chart(path: str | Path) -> None:
    """Raise PtqsrError where `write_chart` could not write: say so before the work."""
    if Path(path).suffix.lower() != ".png":
        raise PtqsrError(f"{path}: a chart is a .png")
    check_writable(path)
    if find_spec("matplotlib") is None:
        raise PtqsrError('--chart needs matplotlib: pip install "ptqsr[chart]"')


def write_chart(groups: Sequence[tuple[str, Sequence[Record]]], path: str | Path) -> None:
    """Draw medians as bars with their quartiles, a panel for each (title, records), as PNG.

    Records without a time are left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    timed = [(title, [r for r in records if r.timing is not None]) for title, records in groups]
    heights = [len(records) + 2 for _, records in timed]
    figure = Figure(figsize=(WIDTH_INCHES, BAR_INCHES * sum(heights) + 0.5), layout="constrained")
    panels = figure.subplots(len(timed), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (title, records) in zip(panels, timed, strict=True):
        threads = sorted({record.threads for record in records})
        for place, record in enumerate(records):
            timing = record.timing
            assert timing is not None
            spread = [[timing.median_ms - timing.low_ms], [timing.high_ms - timing.median_ms]]
            panel.barh(
                place,
                timing.median_ms,
                xerr=spread,
                color=f"C{threads.index(record.threads)}",
                error_kw={"lw": 1},
            )
            text = f" {timing.median_ms:.4g} ms ({timing.ratio:.2f} x)"
            panel.text(timing.high_ms, place, text, va="center", fontsize=7)
        labels = [_label(record) for record in records]
        panel.set_yticks(range(len(records)), labels, fontsize=7)
        panel.invert_yaxis()
        panel.margins(x=0.25)
        panel.set_xlim(left=0)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel("ms per inference: median, quartiles; (x: time over float32's)")
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png", dpi=120)


def _label(record: Record) -> str:
    if record.device != "cpu":
        return record.candidate
    return f"{record.candidate}, {record.threads} thread{'s' * (record.threads > 1)}"
