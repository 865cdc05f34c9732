"""Calibration: streamed statistics of the tensors that quantized convolutions read."""

from ptqsr.calibration.cards import cards
from ptqsr.calibration.collector import Gather, Share, collect, collect_share, gather
from ptqsr.calibration.inputs import Image, Inputs
from ptqsr.calibration.readings import Part, Readings, Sighting, readings
from ptqsr.calibration.statistics import (
    ChannelRanges,
    NormalisedHistogram,
    Statistics,
    Summable,
    ValueHistogram,
)

__all__ = [
    "ChannelRanges",
    "Gather",
    "Image",
    "Inputs",
    "NormalisedHistogram",
    "Part",
    "Readings",
    "Share",
    "Sighting",
    "Statistics",
    "Summable",
    "ValueHistogram",
    "cards",
    "collect",
    "collect_share",
    "gather",
    "readings",
]
