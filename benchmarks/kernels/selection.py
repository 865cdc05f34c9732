"""Choosing 16 points of dfsq-107 for a million samples of one channel, and for many channels.

    python -m benchmarks.kernels.selection --json benchmarks/results/selection.json

The claim: exact in at most 4 ms (ranges, histogram, selection; one thread). The loss is the mean of
(z - nearest point)^2 over the samples, z = (x - mean) / scale.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from benchmarks.timer import Timing, as_json, compare, write
from ptqsr import native
from ptqsr.calibration import ChannelRanges, NormalisedHistogram
from ptqsr.points import UniversalSet, select_channels
from ptqsr.points.optimal import optimal, reference

SET = UniversalSet.preset("dfsq-107")
BITS, SAMPLES, CHANNELS = 4, 1_000_000, 64


def ranges(x: torch.Tensor) -> torch.Tensor:
    measured = ChannelRanges(x.shape[1])
    measured.update(x)
    return measured.nonnegative


def histogram(x: torch.Tensor, nonnegative: torch.Tensor) -> NormalisedHistogram:
    counted = NormalisedHistogram(nonnegative, SET.denominator)
    counted.update(x)
    return counted


def choose(x: torch.Tensor, method: str) -> np.ndarray:
    """Return the points of the first channel, from its samples."""
    counted = histogram(x, ranges(x))
    index, _ = select_channels(
        counted.counts.numpy(), counted.centres.numpy(), SET, BITS, method=method, seed=0
    )
    return SET.values[index[0]]


def without_native(run: Callable[[], np.ndarray]) -> np.ndarray:
    with mock.patch.object(native, "load", lambda: None):
        return run()


def k_means_of_samples(z: np.ndarray) -> np.ndarray:
    """The usual way: all samples to scikit-learn, then the nearest value for each centroid."""
    fit = KMeans(1 << BITS, n_init=3, random_state=0).fit(z[:, None])
    centroids = fit.cluster_centers_
    return np.unique(SET.values[np.abs(centroids - SET.values).argmin(axis=1)])


def loss(z: np.ndarray, points: np.ndarray) -> float:
    return float(((z - points[np.searchsorted((points[1:] + points[:-1]) / 2, z)]) ** 2).mean())


def show(op: str, shape: str, timings: list[Timing]) -> None:
    for timing in timings:
        print(timing.line(op, shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    torch.manual_seed(0)
    x = torch.randn(1, 1, 1000, SAMPLES // 1000)
    centred = x.double() - x.double().mean()
    z = (centred / centred.abs().max()).flatten().numpy()

    whole: dict[str, Callable[[], np.ndarray]] = {
        "exact, C++": lambda: choose(x, "optimal"),
        "exact, numpy": lambda: without_native(lambda: choose(x, "optimal")),
        "k-means, histogram": lambda: choose(x, "kmeans"),
        "k-means, samples": lambda: k_means_of_samples(z),
    }
    fast = dict(list(whole.items())[:2])
    slow = {name: run for name, run in whole.items() if name != "exact, numpy"}
    timings = compare(fast, rounds=arguments.rounds) + compare(slow, rounds=3)[1:]
    show("select", "1e6 samples", timings)
    losses = {name: loss(z, run()) for name, run in whole.items()}
    for name, value in losses.items():
        print(f"{'loss':<18} {'1e6 samples':<16} {name:<22} {value:.6e}")

    nonnegative, counted = ranges(x), histogram(x, ranges(x))
    weights, centres = counted.counts.double().numpy(), counted.centres.numpy()
    count = SET.count(BITS)
    parts = compare(
        {
            "ranges": lambda: ranges(x),
            "histogram": lambda: histogram(x, nonnegative),
            "selection": lambda: optimal(weights, centres, SET, count),
        },
        rounds=arguments.rounds,
    )
    show("part", "1e6 samples", parts)

    many = histogram(torch.randn(1, CHANNELS, 100, 100), torch.zeros(CHANNELS, dtype=torch.bool))
    weights64 = many.counts.double().numpy()
    channels = compare(
        {
            "C++, 1 thread": lambda: optimal(weights64, centres, SET, count, 1),
            "C++, 2 threads": lambda: optimal(weights64, centres, SET, count, 2),
            "numpy": lambda: reference(weights64, centres, SET, count),
        },
        rounds=arguments.rounds,
    )
    show("selection", f"{CHANNELS} channels", channels)
    figures = {
        "select": as_json(timings),
        "loss": losses,
        "parts": as_json(parts),
        f"selection of {CHANNELS} channels": as_json(channels),
    }
    write(arguments.json, figures)


if __name__ == "__main__":
    main()
