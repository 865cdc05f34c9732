"""DFSQ (Zhong et al.): per channel, points of a universal set for values normalised on the fly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from ptqsr.calibration import ChannelRanges, NormalisedHistogram, Part, Statistics
from ptqsr.config import Config, Rule
from ptqsr.errors import PtqsrError
from ptqsr.methods.base import Method
from ptqsr.methods.records import Options
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d
from ptqsr.points import SELECTORS, UniversalSet, select_channels
from ptqsr.quantizers import SubsetQuantizer


class DFSQ(Method):
    name = "dfsq"
    per_channel = True

    def __init__(self, config: Config, rule: Rule) -> None:
        super().__init__(config, rule)
        if config.selection not in SELECTORS:
            raise PtqsrError(
                f"selector {config.selector!r} is unknown; choose {' or '.join(SELECTORS)}"
            )
        self.universal_set = UniversalSet.read(rule.universal_set)

    @property
    def takes_all(self) -> bool:
        """Whether the bits are enough for the whole set: then there is nothing to choose."""
        return 1 << self.rule.act_bits >= len(self.universal_set.integers)

    def statistics(self, ranges: ChannelRanges) -> NormalisedHistogram | None:
        if self.takes_all:
            return None
        return NormalisedHistogram(ranges.nonnegative, self.universal_set.denominator)

    def quantizer(
        self, part: Part, ranges: ChannelRanges, statistics: Statistics | None
    ) -> SubsetQuantizer:
        nonnegative = ranges.nonnegative
        if part.of_picture and self.rule.whole_range:
            # Of a ReLU's output 0 must come out exactly; of a picture it is one level like any
            # other, and without its mean half of the levels would be idle.
            nonnegative = torch.zeros_like(nonnegative)
        bits, integers = self.rule.act_bits, self.universal_set.integers
        if self.takes_all:
            chosen = np.tile(integers, (len(ranges.low), 1))
        else:
            assert isinstance(statistics, NormalisedHistogram)
            index, _ = select_channels(
                statistics.counts.numpy(),
                statistics.centres.numpy(),
                self.universal_set,
                bits,
                method=self.config.selection,
                seed=self.config.seed,
                threads=torch.get_num_threads(),
            )
            chosen = integers[index]
        return SubsetQuantizer(
            torch.from_numpy(chosen.astype("int32")),
            nonnegative,
            universal_set=self.universal_set,
            bits=bits,
        )

    def notice(self) -> str | None:
        size, asked = len(self.universal_set.integers), 1 << self.rule.act_bits
        if asked <= size + 1:  # int8 is symmetric: a level less than it has codes
            return None
        return (
            f"{self.rule.act_bits} bits of {self.universal_set.name} mean {size} levels, "
            f"not {asked}: the set has no more; the universal set int8, as dfsq+ takes it, "
            "has 255"
        )


class DFSQPlus(DFSQ):
    """Our recipe on DFSQ's activations: exact points, weights rounded for what they multiply."""

    name = "dfsq+"
    refines = True

    def reconstruction(self, layers: Sequence[str]) -> Options | None:
        if not self.config.reconstruct:
            return None
        return Options(self.config.iterations, self.config.seed, from_levels=True)

    def latents(
        self, network: SRNetwork, model: SRNetwork, names: Iterable[str]
    ) -> dict[str, torch.Tensor]:
        layers = {name: network.get_submodule(name) for name in names}
        return {
            name: layer.quantized_weight.levels().to(torch.float32)
            for name, layer in layers.items()
            if isinstance(layer, FakeQuantConv2d)
        }
