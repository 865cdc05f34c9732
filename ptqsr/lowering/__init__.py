"""From a network to a Plan: what runs in integers, what is fused into it, and what stays float."""

from ptqsr.lowering.lower import lower
from ptqsr.lowering.plan import (
    Convolve,
    DropIn,
    Encode,
    Float,
    Normalise,
    Plan,
    Record,
    Source,
    Statistics,
    statistics_of,
)
from ptqsr.lowering.trace import Traced, trace

__all__ = [
    "Convolve",
    "DropIn",
    "Encode",
    "Float",
    "Normalise",
    "Plan",
    "Record",
    "Source",
    "Statistics",
    "Traced",
    "lower",
    "statistics_of",
    "trace",
]
