"""From a network to a Plan: what runs in integers, what is fused into it, and what stays float."""

from ptqsr.lowering.lower import lower
from ptqsr.lowering.plan import (
    PICTURES,
    Choose,
    Convolve,
    DropIn,
    Encode,
    Float,
    Measure,
    Moments,
    Normalise,
    Piece,
    Plan,
    Record,
    Source,
    Statistics,
    moments_of,
    statistics_of,
)
from ptqsr.lowering.trace import Traced, trace

__all__ = [
    "PICTURES",
    "Choose",
    "Convolve",
    "DropIn",
    "Encode",
    "Float",
    "Measure",
    "Moments",
    "Normalise",
    "Piece",
    "Plan",
    "Record",
    "Source",
    "Statistics",
    "Traced",
    "lower",
    "moments_of",
    "statistics_of",
    "trace",
]
