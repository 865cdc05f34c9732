"""Figures as people read them."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"


def db(value: float, places: int = 2) -> str:
    """Return 37.30 dB, or infinite."""
    return f"{bare(value, places)} dB" if math.isfinite(value) else bare(value)


def bare(value: float, places: int = 2) -> str:
    """Return a number; -0.00 is 0.00."""
    if math.isnan(value):
        return "none"
    if math.isinf(value):
        return "exact" if value > 0 else f"{MINUS}infinite"
    text = f"{value:.{places}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)


def per_cent(share: float, places: int = 1) -> str:
    return f"{100 * share:.{places}f} %"


def lost(drop: float) -> str:
    """Return by how much PSNR fell, or rose."""
    if not math.isfinite(drop):
        return "not comparable"
    return f"{bare(abs(drop), 3)} dB {'below' if drop >= 0 else 'above'} float"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return 1 crop, 3 crops."""
    return f"{number} {one if number == 1 else many or one + 's'}"
