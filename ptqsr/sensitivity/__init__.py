"""Bits for each layer: what each costs alone, and the best choice under a limit."""

from ptqsr.sensitivity.choose import choose
from ptqsr.sensitivity.judge import Judge, as_inputs
from ptqsr.sensitivity.measure import sensitivity
from ptqsr.sensitivity.records import CANDIDATES, Choice, LayerSensitivity, Loss, Sensitivity
from ptqsr.sensitivity.tape import Tape

__all__ = [
    "CANDIDATES",
    "Choice",
    "Judge",
    "LayerSensitivity",
    "Loss",
    "Sensitivity",
    "Tape",
    "as_inputs",
    "choose",
    "sensitivity",
]
