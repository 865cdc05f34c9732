"""GPU kernels, by whom there is to run them: emulated on the host, and on a GPU (`-m gpu`)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from ptqsr import native
from ptqsr.ops.cuda.kernel import KERNELS

try:
    from ptqsr import _emulated as module
except ModuleNotFoundError:
    module = None

OTHER_ORDER = 1 << 32  # from a seed to that of the second run


class Emulated:
    """The operations of `ptqsr.ops` by GPU kernels that run here.

    Each runs in two orders of threads, and must give the same bits: else threads race.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.emulate(1, 80)

    def emulate(self, seed: int, architecture: int) -> None:
        """Draw another order of threads, on a processor of another compute capability."""
        self.seed, self.architecture = seed, architecture
        self.module.emulate(seed, architecture)

    def __getattr__(self, name: str) -> Any:
        def run(*arguments: Any) -> Any:
            self.module.emulate(self.seed + OTHER_ORDER, self.architecture)
            other = KERNELS[name](self.module, *arguments)
            self.module.emulate(self.seed, self.architecture)
            result = KERNELS[name](self.module, *arguments)
            for a, b in zip(tree_leaves(result), tree_leaves(other), strict=True):
                assert torch.equal(bits(a), bits(b)), f"{name} depends on the order of threads"
            return result

        return run


def bits(x: torch.Tensor) -> torch.Tensor:
    """Return a tensor's bytes, for comparison: NaN equals itself."""
    return x.flatten().view(torch.uint8)


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
