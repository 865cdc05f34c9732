"""Universal sets: sizes, normalisation, shift decompositions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqsr import PtqsrError
from ptqsr.points import PRESETS, UniversalSet

words = st.lists(
    st.lists(st.integers(0, 8).map(lambda k: 2.0**-k), min_size=1, max_size=3).map(
        lambda elements: [0.0, *elements]
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize(
    "name, size, denominator, int8",
    [
        ("dfsq-107", 107, 104, True),
        ("dfsq-code", 377, 1024, False),
        ("sq-2word", 29, 32, True),
        ("int8", 255, 127, True),
    ],
)
def test_presets(name: str, size: int, denominator: int, int8: bool) -> None:
    universal_set = UniversalSet.preset(name)
    assert len(universal_set.values) == size
    assert universal_set.denominator == denominator
    assert universal_set.is_int8 is int8


def test_dfsq_example() -> None:
    """The paper's (2^0 + 2^-2 + 1 + 1) / 4 = 0.8125 is the largest value before normalisation."""
    assert max(UniversalSet.preset("dfsq-107").integers) / 128 == 0.8125


def check(universal_set: UniversalSet) -> None:
    values, integers = universal_set.values, universal_set.integers
    assert values.dtype == np.float64 and (np.diff(values) > 0).all()
    assert np.array_equal(values, -values[::-1]) and values[-1] == 1 and 0 in values
    assert np.array_equal(values, integers / universal_set.denominator)
    if universal_set.shifts is None:
        return
    assert list(universal_set.shifts) == integers.tolist()
    for k, exponents in universal_set.shifts.items():
        assert len(exponents) == len(universal_set.words)
        assert sum(1 << e for e in exponents if e is not None) == abs(k)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_properties(name: str) -> None:
    check(UniversalSet.preset(name))


@given(words)
def test_custom_properties(words: list[list[float]]) -> None:
    check(UniversalSet.from_words(words))


def test_shifts_come_from_their_words() -> None:
    allowed = [{None, 5, 4, 1}, {None, 3, 1, 0}, {None, 5, 4, 1}, {None, 5, 4, 1}]
    for exponents in UniversalSet.preset("dfsq-107").shifts.values():
        assert all(e in word for e, word in zip(exponents, allowed, strict=True))


@pytest.mark.parametrize(
    "words, problem",
    [
        ([], "word"),
        ([[0]], "two"),
        ([[1, 0.5]], "lacks the element 0"),
        ([[0, 0.3]], "2\\^-k"),
        ([[0, -1]], "2\\^-k"),
        ([[0, 2]], "2\\^-k"),
        ([[0, 2**-17]], "2\\^-k"),
        ([[0, 1]] * 21, "2\\^20"),
    ],
)
def test_bad_words(words: list[list[float]], problem: str) -> None:
    with pytest.raises(PtqsrError, match=problem):
        UniversalSet.from_words(words)


def test_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([[0, 1, 0.5], [0, 0.25]]))
    assert UniversalSet.read(str(file)).integers.tolist() == list(range(-5, 6))
    assert UniversalSet.read("int8") == UniversalSet.preset("int8")
    for text in ("{", "3", '["a"]', "[[0, null]]"):
        file.write_text(text)
        with pytest.raises(PtqsrError, match=r"mine\.json"):
            UniversalSet.read(str(file))
    with pytest.raises(PtqsrError, match="neither a file nor"):
        UniversalSet.read("dfsq-108")
