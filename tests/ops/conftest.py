"""Fixtures of the tests of operations."""

from __future__ import annotations

import pytest
from ops_helpers import ISAS

from ptqsr import native


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every instruction set of this machine in turn."""
    monkeypatch.setattr(native, "cpu_isa", lambda: request.param)
    return request.param
