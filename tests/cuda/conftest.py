"""GPU kernels, by whom there is to run them: emulated on the host, and on a GPU (`-m gpu`)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_map_only

from ptqsr import native
from ptqsr.ops.cuda.kernel import KERNELS

try:
    from ptqsr import _emulated as module
except ModuleNotFoundError:
    module = None


class Emulated:
    """The operations of `ptqsr.ops` by GPU kernels that run here."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def emulate(self, seed: int, architecture: int) -> None:
        """Draw another order of threads, on a processor of another compute capability."""
        self.module.emulate(seed, architecture)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: KERNELS[name](self.module, *arguments)


class OnGpu:
    """The operations of `ptqsr.ops` on a GPU, of tensors that come from the host and go back."""

    def emulate(self, seed: int, architecture: int) -> None:
        """Nothing: a GPU has an order and a compute capability of its own."""

    def __getattr__(self, name: str) -> Any:
        def run(*arguments: Any) -> Any:
            there = tree_map_only(torch.Tensor, lambda t: t.cuda(), arguments)
            result = getattr(torch.ops.ptqsr, name)(*there)
            return tree_map_only(torch.Tensor, lambda t: t.cpu(), result)

        return run


@pytest.fixture
def emulated() -> Emulated:
    if module is None:
        pytest.skip("this build has no emulation: -C cmake.define.PTQSR_EMULATION=ON")
    module.emulate(1, 80)
    return Emulated(module)


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def kernels(request: pytest.FixtureRequest) -> Emulated | OnGpu:
    if request.param == "emulated":
        return request.getfixturevalue("emulated")
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if native.cuda() is None:
        pytest.skip("this build has no CUDA kernels")
    return OnGpu()
