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


class Clipped(MinMax):
    """The same over a range that follows from the distribution of the values.

    Where the rule asks for the whole range it is MinMax: what clipping gains is resolution, which
    8 bits do not lack, and what it costs there is the picture's own black and white.
    """

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
        return UniformQuantizer.from_range(*self.range(statistics), self.rule.act_bits)

    def range(self, histogram: ValueHistogram) -> tuple[float, float]:
        """Return (low, high)."""
        raise NotImplementedError


class Percentile(Clipped):
    """The range leaves out a percentile of either tail: below the 1st and above the 99th."""

    name = "percentile"

    def range(self, histogram: ValueHistogram) -> tuple[float, float]:
        tail = self.config.percentile
        return histogram.percentile(tail), histogram.percentile(100 - tail)
