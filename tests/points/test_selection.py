"""Selectors: `optimal` against brute force, and never worse than `kmeans`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptqsr import PtqsrError
from ptqsr.points import SELECTORS, UniversalSet, select, select_channels

SMALL = UniversalSet.from_words([[0, 1, 0.5], [0, 0.25]])  # 11 values
DFSQ = UniversalSet.preset("dfsq-107")

samples = st.lists(
    st.tuples(st.integers(0, 100), st.floats(-1, 1, width=32)), min_size=1, max_size=40
).filter(lambda pairs: any(weight for weight, _ in pairs))


def loss_of(points: np.ndarray, weights: np.ndarray, positions: np.ndarray) -> float:
    return float((weights * np.abs(positions[:, None] - points).min(axis=1) ** 2).sum())


@settings(max_examples=60, deadline=None)
@given(samples, st.integers(1, 3))
def test_optimal_equals_brute_force(pairs: list[tuple[int, float]], bits: int) -> None:
    weights, positions = np.array(pairs, dtype=np.float64).T
    points, loss = select(weights, positions, SMALL, bits, method="optimal")
    assert len(points) == 1 << bits and set(points) <= set(SMALL.values)
    best = min(
        loss_of(np.array(subset), weights, positions)
        for subset in itertools.combinations(SMALL.values, 1 << bits)
    )
    assert loss == pytest.approx(best, rel=1e-9, abs=1e-12 * weights.sum())
    assert loss_of(points, weights, positions) == pytest.approx(loss, rel=1e-9, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(samples, st.integers(2, 5), st.sampled_from([SMALL, DFSQ, UniversalSet.preset("int8")]))
def test_optimal_is_never_worse_than_kmeans(
    pairs: list[tuple[int, float]], bits: int, universal_set: UniversalSet
) -> None:
    weights, positions = np.array(pairs, dtype=np.float64).T
    best = select(weights, positions, universal_set, bits, method="optimal")
    paper = select(weights, positions, universal_set, bits, method="kmeans")
    assert best[1] <= paper[1] + 1e-12 * weights.sum()
    for points, loss in (best, paper):
        assert len(points) == universal_set.count(bits)
        assert (np.diff(points) > 0).all() and set(points) <= set(universal_set.values)
        assert loss_of(points, weights, positions) == pytest.approx(loss, rel=1e-9, abs=1e-9)


def histograms() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = [rng.laplace(size=20000), np.maximum(rng.normal(size=20000), 0), rng.normal(size=20000)]
    edges = np.linspace(-1, 1, 4161)
    counts = np.stack([np.histogram(z / np.abs(z).max(), edges)[0] for z in rows])
    return counts, (edges[1:] + edges[:-1]) / 2


@pytest.mark.parametrize("method", SELECTORS)
@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_channels_are_independent_of_each_other_and_of_threads(method: str, bits: int) -> None:
    counts, centres = histograms()
    together, loss = select_channels(counts, centres, DFSQ, bits, method=method, seed=1, threads=1)
    threaded, _ = select_channels(counts, centres, DFSQ, bits, method=method, seed=1, threads=3)
    assert np.array_equal(together, threaded)
    for i, row in enumerate(counts):
        alone, one = select(row, centres, DFSQ, bits, method=method, seed=1)
        assert np.array_equal(DFSQ.values[together[i]], alone) and loss[i] == one


def test_more_bits_never_hurt() -> None:
    counts, centres = histograms()
    losses = [select(counts[0], centres, DFSQ, b, method="optimal")[1] for b in range(2, 9)]
    assert all(a >= b for a, b in itertools.pairwise(losses))


@pytest.mark.parametrize("method", SELECTORS)
def test_a_channel_never_seen_gets_the_points_of_all(method: str) -> None:
    counts, centres = histograms()
    counts = np.concatenate((counts[:1], np.zeros_like(counts[:1])))
    index, loss = select_channels(counts, centres, DFSQ, 4, method=method, seed=0)
    assert np.array_equal(index[0], index[1]) and loss[1] == 0


@pytest.mark.parametrize("method", SELECTORS)
def test_few_occupied_bins(method: str) -> None:
    """A channel with fewer different values than points: they are hit, places are filled."""
    points, loss = select([5, 1, 1], [0.0, 1.0, DFSQ.values[20]], DFSQ, 4, method=method)
    assert loss == 0 and len(points) == 16


@pytest.mark.parametrize("method", SELECTORS)
def test_wide_bits_use_the_whole_set(method: str) -> None:
    points, _ = select([1, 1], [0.3, -0.3], DFSQ, 8, method=method)
    assert np.array_equal(points, DFSQ.values)


def test_free_places_are_filled_by_the_rule() -> None:
    """All mass on 0: nothing lowers the loss, so the smallest magnitudes come, positive first."""
    points, _ = select([1.0], [0.0], SMALL, 2, method="kmeans")
    assert points.tolist() == [-0.2, 0.0, 0.2, 0.4]


@pytest.mark.parametrize("method", SELECTORS)
def test_points_that_nothing_needs_follow_the_rule(method: str) -> None:
    points, loss = select([4, 1, 1], [0.0, 21 / 104, 1.0], DFSQ, 4, method=method)
    assert loss == 0 and 104 * points == pytest.approx([*range(-6, 8), 21, 104])


@pytest.mark.parametrize(
    "weights, positions, words",
    [
        ([], [], "not all 0"),
        ([0, 0], [0, 1], "not all 0"),
        ([1, -1], [0, 1], "non-negative"),
        ([1], [1.5], r"\[-1, 1\]"),
        ([1, 1], [0], r"\[M\]"),
        ([np.nan], [0], "finite"),
        ([1e300], [0], "scale them down"),
    ],
)
def test_bad_samples(weights: list[float], positions: list[float], words: str) -> None:
    with pytest.raises(PtqsrError, match=words):
        select(weights, positions, SMALL, 2)
