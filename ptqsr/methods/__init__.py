"""Post-training methods: recipes over statistics, selectors and quantizers."""

from ptqsr.methods.run import METHODS, calibrate, learns, method_of
from ptqsr.methods.simulate import Progress, simulate

__all__ = ["METHODS", "Progress", "calibrate", "learns", "method_of", "simulate"]
