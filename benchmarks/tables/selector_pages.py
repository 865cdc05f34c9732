"""The selectors' curves as Markdown, the exponents that fit them, and verdicts on these."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import median

import numpy as np

from benchmarks.tables.check import Verdict
from benchmarks.tables.results import Row, markdown_table

# Below so many values and samples the time is what a call costs anyway.
LARGE_SETS, MANY_SAMPLES = 255, 10**5
SELECTORS = ("optimal", "k-means")
SELECTING = tuple(f"{name}, histogram" for name in SELECTORS)
# Linear in samples: both ways from these to points, where k-means takes them themselves as many
# rounds as they ask for. Selecting takes as long from a histogram of any number.
LINEAR = ("making the histogram", "k-means, samples")
WAYS = (LINEAR[0], *SELECTING, LINEAR[1])
# How far an exponent may be above what is claimed.
NOISE = 0.2


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
    names = (*SELECTORS, "exhaustive")
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
    lines = []
    for (samples,) in _distinct(rows, "samples", "samples"):
        here = [r for r in rows if (r["curve"], r["samples"]) == ("samples", samples)]
        cells = [time_cell([row for row in here if row["selector"] == name]) for name in WAYS]
        lines.append([f"{samples:.0e}", *cells])
    return markdown_table(("samples", *(f"{name}, ms" for name in WAYS)), lines)


def exponent_table(rows: list[Row]) -> str:
    """Return the exponent of every way's time: the range over tensors."""
    lines = []
    for (bits,) in _distinct(rows, "size", "bits"):
        for name in SELECTORS:
            cell = _range(over_values(rows, name, bits, LARGE_SETS))
            lines.append([f"{name}, {bits} bits", f"values, from {LARGE_SETS} on", cell])
        cell = _range(over_values(rows, "exhaustive", bits))
        lines.append([f"exhaustive, {bits} bits", "values", cell])
    for name in WAYS:
        cell = _range(over_samples(rows, name))
        lines.append([name, f"samples, from {MANY_SAMPLES:.0e} on", cell])
    return markdown_table(("time of", "over", "exponent"), lines)


def verdicts(rows: list[Row]) -> Iterator[Verdict]:
    """Linear in samples; on histograms independent of these; optimal at most quadratic in |U|."""
    claims = [(name, int(name in LINEAR), over_samples(rows, name)) for name in WAYS]
    claims += [
        (f"optimal over values, {bits} bits", 2, over_values(rows, "optimal", bits, LARGE_SETS))
        for bits in (2, 3, 4)
    ]
    for name, claim, found in claims:
        text = f"{name}: exponent of time at most {claim} (+{NOISE} for noise)"
        if found:
            yield Verdict(max(found) <= claim + NOISE, f"{text}: {_range(found)}")
        else:
            yield Verdict(None, text)


def over_values(rows: list[Row], name: str, bits: int, least: int = 0) -> list[float]:
    """Return the exponents of a selector's time over the size of the universal set."""
    wanted = ("size", name, bits)
    here = [row for row in rows if (row["curve"], row["selector"], row["bits"]) == wanted]
    return exponents([row for row in here if row["values"] >= least], lambda row: row["values"])


def over_samples(rows: list[Row], name: str) -> list[float]:
    """Return the exponents of a way's time over the number of samples, where these are many."""
    here = [row for row in rows if (row["curve"], row["selector"]) == ("samples", name)]
    many = [row for row in here if row["samples"] >= MANY_SAMPLES]
    return exponents(many, lambda row: row["samples"])


def exponents(rows: list[Row], x: Callable[[Row], float]) -> list[float]:
    """Return for every tensor the slope of log seconds over log x, by least squares."""
    slopes = []
    for tensor in dict.fromkeys(row["tensor"] for row in rows):
        here = [row for row in rows if row["tensor"] == tensor]
        logs = np.log([[x(row), row["seconds"]["median"]] for row in here])
        if len(np.unique(logs[:, 0])) > 1:
            slopes.append(float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]))
    return slopes


def _range(slopes: Sequence[float]) -> str:
    return f"{min(slopes):.2f} to {max(slopes):.2f}" if slopes else ""


def _distinct(rows: list[Row], curve: str, *names: str) -> list[tuple]:
    found = {tuple(row[name] for name in names) for row in rows if row["curve"] == curve}
    return sorted(found)
