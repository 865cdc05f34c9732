"""The static uniform baselines."""

from __future__ import annotations

from ptqsr.calibration import ChannelRanges, Statistics, ValueHistogram
from ptqsr.methods.base import Method
from ptqsr.quantizers import UniformQuantizer


class MinMax(Method):
    """Per tensor, asymmetric, over the smallest and largest value of the calibration set."""

    name = "minmax"

    def quantizer(self, ranges: ChannelRanges, statistics: Statistics | None) -> UniformQuantizer:
        low, high = float(ranges.low.min()), float(ranges.high.max())
        return UniformQuantizer.from_range(low, high, self.config.act_bits)


class Percentile(Method):
    """The same with a percentile of either tail: the 1st and 99th by default."""

    name = "percentile"

    def statistics(self, ranges: ChannelRanges) -> ValueHistogram:
        return ValueHistogram(float(ranges.low.min()), float(ranges.high.max()))

    def quantizer(self, ranges: ChannelRanges, statistics: Statistics | None) -> UniformQuantizer:
        assert isinstance(statistics, ValueHistogram)
        tail = self.config.percentile
        low, high = statistics.percentile(tail), statistics.percentile(100 - tail)
        return UniformQuantizer.from_range(low, high, self.config.act_bits)
