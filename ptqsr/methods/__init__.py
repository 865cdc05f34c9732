"""Post-training methods: recipes over statistics, selectors and quantizers."""

from ptqsr.methods.run import METHODS, calibrate, learns, method_of
from ptqsr.methods.simulate import Observed, Progress

__all__ = ["METHODS", "Observed", "Progress", "calibrate", "learns", "method_of"]
