"""Quantizers: parameters from statistics, and the mapping they define."""

from ptqsr.quantizers.adaround import NearestRounding, Rounding, SoftRounding, undecided
from ptqsr.quantizers.base import ActivationQuantizer, join
from ptqsr.quantizers.choosing import (
    CHOICES,
    PatchGradient,
    by_choice,
    logits,
    measures,
    width,
)
from ptqsr.quantizers.learned import LearnedStep, StraightThrough
from ptqsr.quantizers.offset import OffsetQuantizer, Offsets, displaced
from ptqsr.quantizers.rounding import best_grid, compensated
from ptqsr.quantizers.selected import FEW_BITS, Chooser, SelectedQuantizer, choosers
from ptqsr.quantizers.subset import SubsetQuantizer
from ptqsr.quantizers.uniform import QuantizedWeight, UniformQuantizer, grid, quantized, symmetric

KINDS: dict[str, type[ActivationQuantizer]] = {
    quantizer.kind: quantizer
    for quantizer in (SubsetQuantizer, UniformQuantizer, OffsetQuantizer, SelectedQuantizer)
}

__all__ = [
    "CHOICES",
    "FEW_BITS",
    "KINDS",
    "ActivationQuantizer",
    "Chooser",
    "LearnedStep",
    "NearestRounding",
    "OffsetQuantizer",
    "Offsets",
    "PatchGradient",
    "QuantizedWeight",
    "Rounding",
    "SelectedQuantizer",
    "SoftRounding",
    "StraightThrough",
    "SubsetQuantizer",
    "UniformQuantizer",
    "best_grid",
    "by_choice",
    "choosers",
    "compensated",
    "displaced",
    "grid",
    "join",
    "logits",
    "measures",
    "quantized",
    "symmetric",
    "undecided",
    "width",
]
