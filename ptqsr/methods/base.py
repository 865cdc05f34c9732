"""What a post-training method is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch

from ptqsr.calibration import ChannelRanges, Part, Statistics
from ptqsr.config import Config, Rule
from ptqsr.methods.records import Options
from ptqsr.models import SRNetwork
from ptqsr.quantizers import ActivationQuantizer, QuantizedWeight


class Method:
    """A recipe: from a tensor's statistics to its quantizer, for the layers of one rule.

    Every method is given the channels' ranges; one that needs more says what in `statistics`,
    and a second pass over the pictures collects it.
    """

    name: ClassVar[str]
    # Whether every channel is quantized for itself: then a concatenation is the list of its parts.
    per_channel: ClassVar[bool] = False

    def __init__(self, config: Config, rule: Rule) -> None:
        self.config, self.rule = config, rule

    def statistics(self, ranges: ChannelRanges) -> Statistics | None:
        """Return the empty statistics of a second pass, or None.

        Rules that differ in their bits alone share them; for some of these it may be None.
        """
        return None

    def quantizer(
        self, part: Part, ranges: ChannelRanges, statistics: Statistics | None
    ) -> ActivationQuantizer:
        """Return the part's quantizer."""
        raise NotImplementedError

    def weight(self, weight: torch.Tensor) -> QuantizedWeight:
        """Return a float layer's weight as integers."""
        return QuantizedWeight.from_float(weight, self.rule.weight_bits)

    # Whether the weights are rounded again for what their layers multiply (methods.refine).
    refines: ClassVar[bool] = False

    def reconstruction(self, layers: Sequence[str]) -> Options | None:
        """Return how blocks are reconstructed in the end, or None; `layers`: of the body."""
        return None

    def latents(
        self, network: SRNetwork, model: SRNetwork, names: Iterable[str]
    ) -> dict[str, torch.Tensor]:
        """Return the layers' weights in units of their steps, of which rounding gives the levels.

        `network` is fake-quantized, `model` the float one.
        """
        raise NotImplementedError

    def notice(self) -> str | None:
        """Return what a user should know about this configuration."""
        return None
