"""Calibration: streamed statistics of the tensors that quantized convolutions read."""

from ptqsr.calibration.collector import collect, observing, readers
from ptqsr.calibration.inputs import Image, Inputs
from ptqsr.calibration.statistics import (
    ChannelRanges,
    NormalisedHistogram,
    Statistics,
    ValueHistogram,
)

__all__ = [
    "ChannelRanges",
    "Image",
    "Inputs",
    "NormalisedHistogram",
    "Statistics",
    "ValueHistogram",
    "collect",
    "observing",
    "readers",
]
