"""The emulation of GPU kernels on the host: seeds draw the order of threads."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from ptqsr.ops.cuda.kernel import KERNELS

try:
    from ptqsr import _emulated as module
except ImportError:
    module = None


class Emulated:
    """The operations of `ptqsr.ops` by GPU kernels that run here."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: KERNELS[name](self.module, *arguments)


@pytest.fixture
def emulated() -> Emulated:
    if module is None:
        pytest.skip("this build has no emulation: -C cmake.define.PTQSR_EMULATION=ON")
    module.emulate(1, 80)
    return Emulated(module)
