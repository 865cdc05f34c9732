"""Post-training methods: recipes over statistics, selectors and quantizers."""

from ptqsr.methods.run import METHODS, Gather, Progress, calibrate, learns

__all__ = ["METHODS", "Gather", "Progress", "calibrate", "learns"]
