"""Photographs that are at hand everywhere."""

from __future__ import annotations

from pathlib import Path


def sample_photographs() -> list[Path]:
    """Return the two photographs (427x640) that come with scikit-learn."""
    from sklearn.datasets import load_sample_images  # decodes them too, so not on import

    return [Path(name) for name in load_sample_images().filenames]
