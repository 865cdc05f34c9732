"""What a post-training method is."""

from __future__ import annotations

from typing import ClassVar

from ptqsr.calibration import ChannelRanges, Part, Statistics
from ptqsr.config import Config, Rule
from ptqsr.quantizers import ActivationQuantizer


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
        """Return the empty statistics of a second pass, or None."""
        return None

    def quantizer(
        self, part: Part, ranges: ChannelRanges, statistics: Statistics | None
    ) -> ActivationQuantizer:
        """Return the part's quantizer."""
        raise NotImplementedError

    # Whether the weights are rounded again for what their layers multiply (methods.refine).
    refines: ClassVar[bool] = False

    def notice(self) -> str | None:
        """Return what a user should know about this configuration."""
        return None
