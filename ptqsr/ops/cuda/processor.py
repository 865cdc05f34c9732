"""What a kernel must know of the processor that runs it."""

from __future__ import annotations

from types import ModuleType

import torch


def takes_4_bits(module: ModuleType, x: torch.Tensor) -> bool:
    """Return whether a tensor's processor multiplies codes of 4 bits, not bytes alone.

    In the host's memory it is the processor that `module` emulates.
    """
    if not x.is_cuda:
        return bool(module.architecture() < 90)
    return torch.cuda.get_device_capability(x.device) < (9, 0)
