"""What a kernel must know of the processor that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch

TURING_SHARED, AMPERE_SHARED = 64 << 10, 99 << 10  # bytes that a block may have


@dataclass(frozen=True)
class Processor:
    """`capability` as 75; `units`: multiprocessors; `shared`: bytes of shared memory of a block."""

    capability: int
    units: int
    shared: int

    @property
    def takes_4_bits(self) -> bool:
        """Whether tensor cores multiply codes of 4 bits, not bytes alone."""
        return self.capability < 90


def processor_of(module: ModuleType, x: torch.Tensor) -> Processor:
    """Return the processor of a tensor; in the host's memory that which `module` emulates."""
    if x.is_cuda:
        return _gpu(x.device)
    capability = module.architecture()
    return Processor(capability, 3, TURING_SHARED if capability < 80 else AMPERE_SHARED)


@cache
def _gpu(device: torch.device) -> Processor:
    found = torch.cuda.get_device_properties(device)
    shared: int = found.shared_memory_per_block_optin  # type: ignore[attr-defined]
    return Processor(10 * found.major + found.minor, found.multi_processor_count, shared)
