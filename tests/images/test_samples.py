"""Photographs that are at hand everywhere."""

from __future__ import annotations

from sklearn.datasets import load_sample_images

from ptqsr.images import sample_photographs


def test_they_are_those_of_scikit_learn() -> None:
    found = sample_photographs()
    assert [str(path) for path in found] == load_sample_images().filenames
    assert all(path.is_file() for path in found)
