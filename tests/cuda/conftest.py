"""GPU kernels, by whom there is to run them: emulated on the host, and on a GPU (`-m gpu`)."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from ptqsr.ops.cuda.kernel import KERNELS
from ptqsr.ops.reference import fused_conv

from .moving import Mover

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
            same_bits(result, other, f"{name} depends on the order of threads")
            return result

        return run


def same_bits(found: Any, expected: Any, message: str) -> None:
    """Compare the tensors in two structures, NaN equal to itself."""
    for a, b in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        if isinstance(a, torch.Tensor):
            assert a.shape == b.shape and a.dtype == b.dtype, message
            a, b = (t.flatten().contiguous().view(torch.uint8) for t in (a, b))
            same = torch.equal(a, b)
            assert same, message


class Elsewhere:
    """Operations on a device, of tensors that come from the host and go back."""

    def __init__(self, device: str, operation: Callable[[str], Callable[..., Any]]) -> None:
        self.move = Mover(device)
        self.operation = operation

    def emulate(self, seed: int, architecture: int) -> None:
        """Nothing: a device has an order and a compute capability of its own."""

    def __getattr__(self, name: str) -> Any:
        def run(*arguments: Any) -> Any:
            there = self.move(arguments)
            result = self.operation(name)(*there)
            other = self.operation(name)(*there)
            same_bits(result, other, f"{name} gives something else when it runs again")
            here = self.move.back(there)
            same_bits(arguments, here, f"{name} changed what it was given")
            return self.move.back(result)

        return run


class OnGpu(Elsewhere):
    """The operations of `ptqsr.ops` on a GPU; each runs twice, and must give the same bits."""

    def __init__(self, device: str = "cuda") -> None:
        super().__init__(device, lambda name: getattr(torch.ops.ptqsr, name))


@pytest.fixture
def emulated() -> Emulated:
    if module is None:
        pytest.skip("this build has no emulation: -C cmake.define.PTQSR_EMULATION=ON")
    return Emulated(module)


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def kernels(request: pytest.FixtureRequest) -> Emulated | OnGpu:
    if request.param == "emulated":
        return request.getfixturevalue("emulated")
    request.getfixturevalue("gpu")
    return OnGpu()


@pytest.fixture
def no_reference_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a convolution's kernel leaves a shape to the reference."""

    def refused(*_: object) -> None:
        raise AssertionError("the kernel did not take this shape")

    for name in ("subset_conv2d", "uniform_conv2d"):
        monkeypatch.setattr(fused_conv, name, refused)
