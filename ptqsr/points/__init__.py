"""Universal sets, and the choice of quantization points from them. Pure functions on arrays."""

from ptqsr.points.selection import SELECTORS, select, select_channels
from ptqsr.points.universal import PRESETS, UniversalSet

__all__ = ["PRESETS", "SELECTORS", "UniversalSet", "select", "select_channels"]
