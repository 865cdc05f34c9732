"""The static uniform baselines."""

from __future__ import annotations

from ptqsr.calibration import ChannelRanges, Part, Statistics, ValueHistogram
from ptqsr.methods.base import Method
from ptqsr.quantizers import UniformQuantizer


class MinMax(Method):
    """Per tensor, asymmetric, over the smallest and largest value of the calibration set."""

    name = "minmax"

    def quantizer(
        self, part: Part, ranges: ChannelRanges, statistics: Statistics | None
    ) -> UniformQuantizer:
        low, high = float(ranges.low.min()), float(ranges.high.max())
        return UniformQuantizer.from_range(low, high, self.rule.act_bits)


class Percentile(MinMax):
    """The same with a percentile of either tail: the 1st and 99th by default.

    Where the rule asks for the whole range it is MinMax: what clipping gains is resolution, which
    8 bits do not lack, and what it costs there is the picture's own black and white.
    """

    name = "percentile"

    def statistics(self, ranges: ChannelRanges) -> ValueHistogram | None:
        if self.rule.whole_range:
            return None
        return ValueHistogram(float(ranges.low.min()), float(ranges.high.max()))

    def quantizer(
        self, part: Part, ranges: ChannelRanges, statistics: Statistics | None
    ) -> UniformQuantizer:
        if self.rule.whole_range:
            return super().quantizer(part, ranges, statistics)
        assert isinstance(statistics, ValueHistogram)
        tail = self.config.percentile
        low, high = statistics.percentile(tail), statistics.percentile(100 - tail)
        return UniformQuantizer.from_range(low, high, self.rule.act_bits)
