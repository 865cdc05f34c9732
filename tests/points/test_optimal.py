"""The native exact selector against its numpy reference: the same indices, the same loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptqsr import native
from ptqsr.points import UniversalSet, select
from ptqsr.points.optimal import optimal, reference

SETS = {
    "small": UniversalSet.from_words([[0, 1, 0.5], [0, 0.25]]),
    "sq-2word": UniversalSet.preset("sq-2word"),
    "dfsq-107": UniversalSet.preset("dfsq-107"),
    "int8": UniversalSet.preset("int8"),
    "dfsq-code": UniversalSet.preset("dfsq-code"),
}
FINE = UniversalSet.from_words([[0, *(2.0**-e for e in range(k, 12, 3))] for k in (0, 1, 2, 0)])

needs_native = pytest.mark.skipif(native.load() is None, reason="the native module is not built")


def weights_of(kind: str, channels: int, positions: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (channels, len(positions))
    bell = np.exp(-8 * positions**2) * np.ones((channels, 1))
    return {
        "flat": lambda: np.ones(shape),
        "symmetric": lambda: bell,
        "counts": lambda: rng.poisson(50 * bell).astype(float),
        "relu": lambda: rng.poisson(50 * bell) * (positions >= 0.0),
        "sparse": lambda: rng.integers(0, 3, shape) * (rng.random(shape) < 0.03) * 1.0,
        "real": lambda: rng.random(shape) * (rng.random(shape) < 0.5),
        "tiny": lambda: np.where(rng.random(shape) < 0.1, 1e-300, bell),
        "zero": lambda: np.zeros(shape),
    }[kind]()


KINDS = ("flat", "symmetric", "counts", "relu", "sparse", "real", "tiny", "zero")


def assert_same(
    weights: np.ndarray, positions: np.ndarray, universal_set: UniversalSet, bits: int, threads: int
) -> None:
    count = universal_set.count(bits)
    index, loss = optimal(weights, positions, universal_set, count, threads)
    expected, expected_loss = reference(weights, positions, universal_set, count)
    wrong = np.argwhere(index != expected)
    assert not len(wrong), f"first of {len(wrong)} differences at {wrong[0].tolist()}"
    assert np.array_equal(loss, expected_loss)


@needs_native
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(SETS.values())),
    st.integers(1, 7),
    st.sampled_from(KINDS),
    st.integers(1, 9),
    st.sampled_from([1, 2, 63, 416, 1000]),
    st.integers(1, 3),
    st.integers(0, 1 << 16),
)
def test_equals_reference(
    universal_set: UniversalSet,
    bits: int,
    kind: str,
    channels: int,
    bins: int,
    threads: int,
    seed: int,
) -> None:
    positions = (np.arange(bins) + 0.5) * (2 / bins) - 1
    weights = weights_of(kind, channels, positions, seed)
    assert_same(weights, positions, universal_set, bits, threads)


@needs_native
@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-208, 208)), min_size=1, max_size=30).filter(
        lambda pairs: any(weight for weight, _ in pairs)
    ),
    st.integers(1, 6),
)
def test_equals_reference_at_values_and_thresholds(pairs: list[tuple[int, int]], bits: int) -> None:
    """Samples on the values and on their midpoints, some twice: ties everywhere."""
    weights, halves = np.array(sorted(pairs, key=lambda pair: pair[1]), np.float64).T
    assert_same(weights[None], halves / 208, SETS["dfsq-107"], bits, 1)


@needs_native
@pytest.mark.parametrize("bits", [2, 4])
def test_equals_reference_on_a_large_set(bits: int) -> None:
    assert len(FINE.integers) > 500
    positions = (np.arange(4096) + 0.5) / 2048 - 1
    assert_same(weights_of("counts", 2, positions, 0), positions, FINE, bits, 2)


@needs_native
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", KINDS)
def test_result_does_not_depend_on_threads(name: str, kind: str) -> None:
    positions = (np.arange(416) + 0.5) / 208 - 1
    weights = weights_of(kind, 7, positions, 3)
    count = SETS[name].count(4)
    index, loss = optimal(weights, positions, SETS[name], count, 1)
    for threads in (2, 3, 16):
        again = optimal(weights, positions, SETS[name], count, threads)
        assert np.array_equal(index, again[0]) and np.array_equal(loss, again[1])


def test_without_native_code_the_reference_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = np.array([4.0, 1, 1]), np.array([0.0, 21 / 104, 1])
    here = select(*sample, SETS["dfsq-107"], 4, method="optimal")
    monkeypatch.setattr(native, "load", lambda: None)
    there = select(*sample, SETS["dfsq-107"], 4, method="optimal")
    assert np.array_equal(here[0], there[0]) and here[1] == there[1]


@pytest.mark.parametrize(
    "weights, positions, count",
    [
        ((3,), (3,), 4),
        ((1, 3), (4,), 4),
        ((1, 3), (3, 1), 4),
        ((1, 3), (3,), 0),
        ((1, 3), (3,), 108),
    ],
)
def test_shapes_that_do_not_fit(
    weights: tuple[int, ...], positions: tuple[int, ...], count: int
) -> None:
    with pytest.raises(ValueError, match=r"optimal: weights .* must be \[C, M\]"):
        optimal(np.ones(weights), np.zeros(positions), SETS["dfsq-107"], count)
