"""Choosing points by k-means, exactly, and by exhaustive search: loss and seconds.

    python -m benchmarks.tables.selectors --data ../shared/data --weights ../shared/weights
    python -m benchmarks.tables.selectors --check

DFSQ's claim (3.2.3), exponential to linear, as curves, on one thread, of real activations of single
channels. "size": over the universal set and the bits, on one histogram of all samples; exhaustive
search where there are at most search.LIMIT combinations. "samples": over how many samples there
are, drawn from the same channel, 4 bits of dfsq-107; k-means on the samples themselves, as the
paper has it, and both selectors on their histogram. Times are processor time, medians and
quartiles; losses are means over samples of (z - nearest point)^2. Resumable. Without ../shared: the
bundled EDSR alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.tables import check, networks, search
from benchmarks.tables.results import FOLDER, Results, Row, origin
from benchmarks.tables.selector_pages import SELECTORS, WAYS, markdown, verdicts
from benchmarks.tables.variants import words
from benchmarks.timer import Timing
from ptqsr.benchmarking import timer
from ptqsr.points import UniversalSet, select

KEYS = ("curve", "tensor", "values", "bits", "samples", "selector")
SETS = {
    9: UniversalSet.from_words(((0, 1, 2**-1, 2**-2, 2**-3),)),
    15: UniversalSet.from_words(((0, 1), (0, 2**-1), (0, 2**-2))),
    21: UniversalSet.from_words(((0, 1, 2**-1), (0, 1, 2**-2, 2**-3))),
    29: UniversalSet.from_words(words(2)),
    63: UniversalSet.from_words(words(3)),
    107: UniversalSet.preset("dfsq-107"),
    255: UniversalSet.preset("int8"),
    377: UniversalSet.preset("dfsq-code"),
    687: UniversalSet.from_words([(0, 1, 2**-j, 2**-j / 16) for j in (1, 2, 2, 3, 4)]),
    1065: UniversalSet.from_words([(0, 1, 2**-j, 2**-j / 16) for j in (1, 2, 3, 4, 5)]),
}
BITS, SAMPLES = (2, 3, 4), (10**4, 10**5, 10**6, 10**7)
# (network, layer, channel): block inputs and what comes after activations, early and late.
TENSORS = (
    ("EDSR x4 (bundled)", "body.1.body.0", 5),
    ("EDSR x4 (bundled)", "body.8.body.2", 5),
    ("IMDN x4 (authors')", "IMDB2.c1", 5),
    ("IMDN x4 (authors')", "IMDB5.c3", 5),
)
# All sets share one histogram, as fine as this denominator's.
FINE = 1024


def compare(candidates: dict[str, Callable[[], Any]], rounds: int) -> list[Timing]:
    """Time by the processor's clock: on one thread it holds still where others use the machine."""

    def seconds_of(run: Callable[[], object]) -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    return timer.compare(candidates, rounds=rounds, seconds_of=seconds_of)


def row(key: Sequence[object], timing: Timing, loss: float | None) -> Row:
    parts = ("median", "low", "high")
    seconds = {part: round(getattr(timing, f"{part}_ms") / 1e3, 7) for part in parts}
    return {**dict(zip(KEYS, key, strict=True)), "seconds": seconds, "loss": loss, **origin()}


def size_rows(name: str, z: np.ndarray, values: int, bits: int, rounds: int) -> list[Row]:
    """Time the selectors on one histogram of z."""
    weights, positions = search.histogram(z, FINE)
    given = (weights, positions, SETS[values], bits)
    runs: dict[str, Callable[[], Any]] = {
        "optimal": partial(select, *given, method="optimal"),
        "k-means": partial(select, *given, method="kmeans"),
    }
    timings = compare(runs, rounds)
    if search.combinations(SETS[values], bits) <= search.LIMIT:
        runs["exhaustive"] = partial(search.exhaustive, *given)
        timings += compare({"exhaustive": runs["exhaustive"]}, 3)
    return [
        row(
            ("size", name, values, bits, len(z), timing.name),
            timing,
            runs[timing.name]()[1] / weights.sum(),
        )
        for timing in timings
    ]


def sample_rows(name: str, z: np.ndarray, samples: int, rounds: int) -> list[Row]:
    """Time the ways from so many samples, drawn from z, to 16 points of dfsq-107."""
    chosen, bits = SETS[107], 4
    drawn = np.random.default_rng(0).choice(z, samples)
    count = partial(search.histogram, drawn, chosen.denominator)
    given = (*count(), chosen, bits)
    runs: dict[str, Callable[[], Any]] = {
        "optimal, histogram": lambda: select(*given, method="optimal")[0],
        "k-means, histogram": lambda: select(*given, method="kmeans")[0],
        "k-means, samples": lambda: search.k_means_of_samples(drawn, chosen, bits),
    }
    timings = compare(runs, min(rounds, 3 if samples > 10**6 else 5))
    key = ("samples", name, 107, bits, samples)
    rows = [row((*key, t.name), t, search.mean_loss(drawn, runs[t.name]())) for t in timings]
    made = compare({"making the histogram": count}, rounds)[0]
    return [*rows, row((*key, made.name), made, None)]


def fill(
    table: Results,
    tensors: Sequence[tuple[str, np.ndarray]],
    sizes: Sequence[int],
    samples: Sequence[int],
    rounds: int,
) -> None:
    """Measure what the table lacks."""
    counts = {name: len(z) for name, z in tensors}

    def of_other_samples(row: Row) -> bool:
        count = counts.get(row["tensor"], row["samples"])
        return row["curve"] == "size" and row["samples"] != count

    table.drop(of_other_samples)
    held = {table.key(row)[:5] for row in table.rows}
    for name, z in tensors:
        jobs = [("size", name, v, b, len(z)) for v in sizes for b in BITS if 1 << b < v]
        jobs += [("samples", name, 107, 4, n) for n in samples]
        for job in jobs:
            if job not in held:
                start = time.perf_counter()
                if job[0] == "size":
                    table.put(*size_rows(name, z, job[2], job[3], rounds))
                else:
                    table.put(*sample_rows(name, z, job[4], rounds))
                print(f"{job} {time.perf_counter() - start:.1f} s", flush=True)


def results(path: Path) -> Results:
    curves, names = ("size", "samples"), [f"{n}, {layer}, {c}" for n, layer, c in TENSORS]
    ways = (*SELECTORS, "exhaustive", *WAYS)

    def order(key: tuple) -> tuple:
        return curves.index(key[0]), names.index(key[1]), *key[2:5], ways.index(key[5])

    return Results(path, KEYS, markdown, order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    networks.add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--fresh", action="store_true", help="begin rows of other code again")
    parser.add_argument("--json", type=Path, default=FOLDER / "selectors.json")
    parser.add_argument("--check", action="store_true", help="only give a verdict on the rows")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: quartiles ask for 2 at least")
    if options.check:
        raise SystemExit(check.report(verdicts(results(options.json).rows)))
    torch.set_num_threads(1)
    threadpool_limits(1)
    table = results(options.json)
    table.begin_again(map(table.key, table.rows), (), fresh=options.fresh)
    found = {network.name: network for network in networks.available(options.weights, scales=(4,))}
    for number, (name, layer, channel) in enumerate(TENSORS):
        if name in found:
            network = found[name]
            crops = network.crops(options.data)
            seen = search.activation(network.build(options.weights), crops, layer, channel)
            tensor = (f"{name}, {layer}, {channel}", search.normalised(seen))
            # Ten million samples cost k-means minutes: once.
            samples = SAMPLES[:-1] if number else SAMPLES
            fill(table, [tensor], list(SETS), samples, options.rounds)
    table.write()
    print(markdown(table.rows))


if __name__ == "__main__":
    main()
