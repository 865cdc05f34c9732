"""Photographs that are at hand everywhere."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def sample_photographs() -> list[Path]:
    """Return the two photographs (427x640) that come with scikit-learn."""
    # Where they lie, without the seconds that it takes to import.
    found = find_spec("sklearn")
    assert found is not None and found.origin is not None  # ptqsr needs it
    folder = Path(found.origin).parent / "datasets" / "images"
    return [folder / name for name in ("china.jpg", "flower.jpg")]
