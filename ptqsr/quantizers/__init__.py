"""Quantizers: parameters from statistics, and the mapping they define."""

from ptqsr.quantizers.base import ActivationQuantizer, join
from ptqsr.quantizers.offset import OffsetQuantizer, Offsets, displaced
from ptqsr.quantizers.rounding import best_grid, compensated_levels
from ptqsr.quantizers.subset import SubsetQuantizer
from ptqsr.quantizers.uniform import QuantizedWeight, UniformQuantizer, grid, quantized

KINDS: dict[str, type[ActivationQuantizer]] = {
    quantizer.kind: quantizer for quantizer in (SubsetQuantizer, UniformQuantizer, OffsetQuantizer)
}

__all__ = [
    "KINDS",
    "ActivationQuantizer",
    "OffsetQuantizer",
    "Offsets",
    "QuantizedWeight",
    "SubsetQuantizer",
    "UniformQuantizer",
    "best_grid",
    "compensated_levels",
    "displaced",
    "grid",
    "join",
    "quantized",
]
