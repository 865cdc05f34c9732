"""Post-training methods: recipes over statistics, selectors and quantizers."""

from ptqsr.methods.run import METHODS, Progress, calibrate

__all__ = ["METHODS", "Progress", "calibrate"]
