"""Quantization-aware training, a small file for each method."""

from ptqsr.training.methods.base import CHECKPOINT, QuantizationAware
from ptqsr.training.methods.cadyq import CADyQ
from ptqsr.training.methods.odm import ODM
from ptqsr.training.methods.options import Options
from ptqsr.training.methods.pams import PACT, PAMS, DoReFa, TFLite
from ptqsr.training.methods.selection import Selection

METHODS: dict[str, type[QuantizationAware]] = {
    method.name: method for method in (PAMS, ODM, CADyQ, DoReFa, PACT, TFLite)
}

__all__ = [
    "CHECKPOINT",
    "METHODS",
    "ODM",
    "PACT",
    "PAMS",
    "CADyQ",
    "DoReFa",
    "Options",
    "QuantizationAware",
    "Selection",
    "TFLite",
]
