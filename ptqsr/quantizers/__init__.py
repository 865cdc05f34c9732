"""Quantizers: parameters from statistics, and the mapping they define."""

from ptqsr.quantizers.adaround import NearestRounding, Rounding, SoftRounding, undecided
from ptqsr.quantizers.base import ActivationQuantizer, join
from ptqsr.quantizers.learned import LearnedStep, StraightThrough
from ptqsr.quantizers.offset import OffsetQuantizer, Offsets, displaced
from ptqsr.quantizers.rounding import best_grid, compensated
from ptqsr.quantizers.subset import SubsetQuantizer
from ptqsr.quantizers.uniform import QuantizedWeight, UniformQuantizer, grid, quantized

KINDS: dict[str, type[ActivationQuantizer]] = {
    quantizer.kind: quantizer for quantizer in (SubsetQuantizer, UniformQuantizer, OffsetQuantizer)
}

__all__ = [
    "KINDS",
    "ActivationQuantizer",
    "LearnedStep",
    "NearestRounding",
    "OffsetQuantizer",
    "Offsets",
    "QuantizedWeight",
    "Rounding",
    "SoftRounding",
    "StraightThrough",
    "SubsetQuantizer",
    "UniformQuantizer",
    "best_grid",
    "compensated",
    "displaced",
    "grid",
    "join",
    "quantized",
    "undecided",
]
