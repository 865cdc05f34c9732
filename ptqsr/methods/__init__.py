"""Post-training methods: recipes over statistics, selectors and quantizers."""

from ptqsr.methods.run import METHODS, Progress, calibrate, learns

__all__ = ["METHODS", "Progress", "calibrate", "learns"]
