"""Whether a GPU runs quantized networks."""

from __future__ import annotations

import torch

from ptqsr import native
from ptqsr.errors import one_line


def gpu_problem(device: torch.device) -> str | None:
    """Return why a GPU (with a number) cannot be used, and what mends it; None where it can."""
    if torch.version.cuda is None:
        return (
            f"this PyTorch ({torch.__version__}) is built without CUDA; install one that is built "
            "with it: https://pytorch.org/get-started/locally"
        )
    count = torch.cuda.device_count()
    if count == 0:
        return "PyTorch finds no GPU; nvidia-smi and CUDA_VISIBLE_DEVICES tell why"
    assert device.index is not None
    if device.index >= count:
        return f"there is no such GPU; PyTorch finds {count}, the last is cuda:{count - 1}"
    try:
        major, minor = torch.cuda.get_device_capability(device)
    except RuntimeError as error:  # such as a driver that is too old
        return f"CUDA does not start ({one_line(error)}); see nvidia-smi"
    if 10 * major + minor < native.OLDEST_GPU:
        oldest = native.OLDEST_GPU
        return (
            f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}; give a "
            f"GPU of {oldest // 10}.{oldest % 10} or newer"
        )
    reason = native.cuda_problem(10 * major + minor)
    if reason is not None:
        return f"quantized networks would run by slow PyTorch references there ({reason})"
    return None
