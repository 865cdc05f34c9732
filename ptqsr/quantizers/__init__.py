"""Quantizers: parameters from statistics, and the mapping they define."""

from ptqsr.quantizers.adaround import NearestRounding, Rounding, SoftRounding, undecided
from ptqsr.quantizers.base import ActivationQuantizer, join
from ptqsr.quantizers.learned import LearnedStep, StraightThrough
from ptqsr.quantizers.rounding import best_grid, compensated
from ptqsr.quantizers.subset import SubsetQuantizer
from ptqsr.quantizers.uniform import QuantizedWeight, UniformQuantizer

KINDS: dict[str, type[ActivationQuantizer]] = {
    quantizer.kind: quantizer for quantizer in (SubsetQuantizer, UniformQuantizer)
}

__all__ = [
    "KINDS",
    "ActivationQuantizer",
    "LearnedStep",
    "NearestRounding",
    "QuantizedWeight",
    "Rounding",
    "SoftRounding",
    "StraightThrough",
    "SubsetQuantizer",
    "UniformQuantizer",
    "best_grid",
    "compensated",
    "join",
    "undecided",
]
