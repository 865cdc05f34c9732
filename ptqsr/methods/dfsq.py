"""DFSQ (Zhong et al.): per channel, points of a universal set for values normalised on the fly."""

from __future__ import annotations

import torch

from ptqsr.calibration import ChannelRanges, NormalisedHistogram, Statistics
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.methods.base import Method
from ptqsr.points import SELECTORS, UniversalSet, select_channels
from ptqsr.quantizers import SubsetQuantizer


class DFSQ(Method):
    name = "dfsq"
    per_channel = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.selector not in SELECTORS:
            raise PtqsrError(
                f"selector {config.selector!r} is unknown; choose {' or '.join(SELECTORS)}"
            )
        self.universal_set = UniversalSet.read(config.universal_set)

    def statistics(self, ranges: ChannelRanges) -> NormalisedHistogram:
        return NormalisedHistogram(ranges.nonnegative, self.universal_set.denominator)

    def quantizer(self, ranges: ChannelRanges, statistics: Statistics | None) -> SubsetQuantizer:
        assert isinstance(statistics, NormalisedHistogram)
        index, _ = select_channels(
            statistics.counts.numpy(),
            statistics.centres.numpy(),
            self.universal_set,
            self.config.act_bits,
            method=self.config.selector,
            seed=self.config.seed,
            threads=torch.get_num_threads(),
        )
        points = torch.from_numpy(self.universal_set.integers[index].astype("int32"))
        return SubsetQuantizer(
            points,
            ranges.nonnegative,
            universal_set=self.universal_set,
            bits=self.config.act_bits,
        )

    def notice(self) -> str | None:
        size, asked = len(self.universal_set.integers), 1 << self.config.act_bits
        if asked <= size:
            return None
        return (
            f"{self.config.act_bits} bits of {self.universal_set.name} mean {size} levels, "
            f"not {asked}: the set has no more"
        )
