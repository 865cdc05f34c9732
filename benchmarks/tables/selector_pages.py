"""The selectors' curves as Markdown, and the exponents that fit them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from benchmarks.tables.results import Row, markdown_table

# Below so many values and samples the time is what a call costs anyway.
LARGE_SETS, MANY_SAMPLES = 255, 10**5
ON_HISTOGRAMS = ("making the histogram", "optimal, histogram", "k-means, histogram")


def markdown(rows: list[Row]) -> str:
    return "\n\n".join((size_table(rows), sample_table(rows), exponent_table(rows)))


def time_cell(rows: Sequence[Row]) -> str:
    """Return the median over tensors, and the outermost quartiles, in ms."""
    if not rows:
        return ""
    seconds = [row["seconds"] for row in rows]
    low, high = min(s["low"] for s in seconds), max(s["high"] for s in seconds)
    middle = median(s["median"] for s in seconds)
    return f"{_ms(middle)} [{_ms(low)}, {_ms(high)}]"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def excess(rows: list[Row], selector: str) -> str:
    """Return how far a selector's losses are above those of `optimal`: the tensors' range."""
    least = {row["tensor"]: row["loss"] for row in rows if row["selector"] == "optimal"}
    ratios = [row["loss"] / least[row["tensor"]] for row in rows if row["selector"] == selector]
    return f"{100 * min(ratios) - 100:+.1f} to {100 * max(ratios) - 100:+.1f} %" if ratios else ""


def size_table(rows: list[Row]) -> str:
    """Return a line for every universal set and bits, over all tensors."""
    names = ("optimal", "k-means", "exhaustive")
    heads = ("values", "bits", "combinations", *(f"{name}, ms" for name in names))
    lines = []
    for values, bits in _distinct(rows, "size", "values", "bits"):
        here = [r for r in rows if (r["curve"], r["values"], r["bits"]) == ("size", values, bits)]
        cells = [time_cell([row for row in here if row["selector"] == name]) for name in names]
        losses = [excess(here, name) for name in names[1:]]
        count = f"{math.comb(values, 1 << bits):.3g}"
        lines.append([str(values), str(bits), count, *cells, *losses])
    return markdown_table((*heads, "loss of k-means", "loss of exhaustive"), lines)


def sample_table(rows: list[Row]) -> str:
    """Return a line for every number of samples."""
    names = (*ON_HISTOGRAMS, "k-means, samples")
    lines = []
    for (samples,) in _distinct(rows, "samples", "samples"):
        here = [r for r in rows if (r["curve"], r["samples"]) == ("samples", samples)]
        cells = [time_cell([row for row in here if row["selector"] == name]) for name in names]
        lines.append([f"{samples:.0e}", *cells])
    return markdown_table(("samples", *(f"{name}, ms" for name in names)), lines)


def exponent_table(rows: list[Row]) -> str:
    """Return the exponent of every way's time: the range over tensors."""
    lines = []
    for (bits,) in _distinct(rows, "size", "bits"):
        of_bits = [row for row in rows if row["curve"] == "size" and row["bits"] == bits]
        for name in ("optimal", "k-means"):
            large = [r for r in of_bits if r["selector"] == name and r["values"] >= LARGE_SETS]
            cell = exponents(large, lambda row: row["values"])
            lines.append([f"{name}, {bits} bits", f"values, from {LARGE_SETS} on", cell])
        searched = [row for row in of_bits if row["selector"] == "exhaustive"]
        cell = exponents(searched, lambda row: row["values"])
        lines.append([f"exhaustive, {bits} bits", "values", cell])
    for name in (*ON_HISTOGRAMS, "k-means, samples"):
        many = [
            row
            for row in rows
            if row["curve"] == "samples"
            and row["selector"] == name
            and row["samples"] >= MANY_SAMPLES
        ]
        cell = exponents(many, lambda row: row["samples"])
        lines.append([name, f"samples, from {MANY_SAMPLES:.0e} on", cell])
    return markdown_table(("time of", "over", "exponent"), lines)


def exponents(rows: list[Row], x: Callable[[Row], float]) -> str:
    """Return the range over tensors of the slope of log seconds over log x, by least squares."""
    slopes = []
    for tensor in dict.fromkeys(row["tensor"] for row in rows):
        here = [row for row in rows if row["tensor"] == tensor]
        logs = np.log([[x(row), row["seconds"]["median"]] for row in here])
        if len(np.unique(logs[:, 0])) > 1:
            slopes.append(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    return f"{min(slopes):.2f} to {max(slopes):.2f}" if slopes else ""


def _distinct(rows: list[Row], curve: str, *names: str) -> list[tuple]:
    found = {tuple(row[name] for name in names) for row in rows if row["curve"] == curve}
    return sorted(found)
