"""Post-training methods: recipes over statistics, selectors and quantizers."""

from ptqsr.methods.run import METHODS, calibrate, learns, method_of
from ptqsr.methods.simulate import Gather, Observed, Progress, simulate

__all__ = [
    "METHODS",
    "Gather",
    "Observed",
    "Progress",
    "calibrate",
    "learns",
    "method_of",
    "simulate",
]
