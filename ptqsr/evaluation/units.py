"""Figures of cost in words."""

from __future__ import annotations


def bitops(value: float) -> str:
    """Return 215.1T or 76.44G."""
    unit, letter = next(
        (pair for pair in ((1e12, "T"), (1e9, "G")) if value >= pair[0]), (1e6, "M")
    )
    return f"{value / unit:.{1 if value >= 100 * unit else 2}f}{letter}"


def parameters(value: float) -> str:
    """Return 1517.6K."""
    return f"{value / 1e3:.1f}K"
