"""A network that DFSQ has quantized."""

from __future__ import annotations

import pytest
from helpers import photograph

import ptqsr
from ptqsr.config import Config
from ptqsr.models import SRNetwork

from .networks import lively


@pytest.fixture(scope="session")
def quantized() -> SRNetwork:
    """A lively EDSR x2 of 4 bits: every picture has statistics of its own."""
    crops = [photograph(24, 30, seed) for seed in range(3)]
    return ptqsr.calibrate(lively("edsr", 2), crops, Config(bits=4, selector="optimal"))
