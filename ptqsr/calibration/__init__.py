"""Calibration: streamed statistics of the tensors that quantized convolutions read."""

from ptqsr.calibration.cards import cards
from ptqsr.calibration.collector import collect
from ptqsr.calibration.inputs import Image, Inputs
from ptqsr.calibration.readings import Part, Readings, Sighting, readings
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
    "Part",
    "Readings",
    "Sighting",
    "Statistics",
    "ValueHistogram",
    "cards",
    "collect",
    "readings",
]
