"""Several processes that train one network: `torchrun`, and PyTorch's DistributedDataParallel.

Every process takes its share of each batch. Where there is one process nothing here does anything.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ptqsr.errors import PtqsrError

# How long processes wait for the one that validates and saves; torchrun ends them where it dies.
PATIENCE = timedelta(hours=6)


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that `torchrun` started, if it did; give this process's device.

    "cuda" becomes the GPU of its number on this machine. Processes that have joined before stay
    joined.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and not dist.is_torchelastic_launched():
        raise PtqsrError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but torchrun did not start this process; "
            "run `torchrun --nproc-per-node N -m ptqsr ...`, or unset WORLD_SIZE to train alone"
        )
    if not several:
        yield device
        return
    device = _own_device(device)
    if dist.is_initialized():
        yield device
        return
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def _own_device(device: str) -> str:
    if not device.startswith("cuda"):
        return device
    if device != "cuda":
        raise PtqsrError(
            f"device {device}: with torchrun every process takes the GPU of its number; give "
            "--device cuda, and choose GPUs with CUDA_VISIBLE_DEVICES"
        )
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if number >= torch.cuda.device_count():
        raise PtqsrError(f"device cuda:{number}: PyTorch finds no such GPU; start fewer processes")
    return f"cuda:{number}"


def count() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if count() > 1 else 0


def check_share(batch_size: int) -> None:
    """Raise PtqsrError where processes cannot share a batch equally."""
    if batch_size % count():
        raise PtqsrError(f"batch_size is {batch_size}; {count()} processes cannot share it equally")


def share(batch: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a batch, along its first dimension."""
    return batch if count() == 1 else batch.chunk(count())[rank()]


def parallel(step: nn.Module, device: torch.device) -> nn.Module:
    """Return a module that averages its gradients over processes; with one process, itself."""
    if count() == 1:
        return step
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in step.modules()):
        raise PtqsrError(
            "the network has batch normalisation, whose statistics processes do not share; "
            "train it in one process"
        )
    numbers = [device.index or 0] if device.type == "cuda" else None
    with warnings.catch_warnings():
        # The option's new name is not in all versions that we run with.
        warnings.simplefilter("ignore", FutureWarning)
        # Buffers are changed alike everywhere.
        return DistributedDataParallel(step, device_ids=numbers, broadcast_buffers=False)


class _Sum(torch.autograd.Function):
    """Every process's gradient is the sum of all: each has a part in everybody's result."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return _summed(gradients[0])


def _summed(x: torch.Tensor) -> torch.Tensor:
    x = x.contiguous().clone()
    dist.all_reduce(x)
    return x


def sum_over_processes(x: torch.Tensor) -> torch.Tensor:
    """Return the sum of all processes' x, differentiable."""
    return x if count() == 1 else _Sum.apply(x)  # type: ignore[no-any-return]


@torch.no_grad()
def mean_over_processes(x: torch.Tensor) -> torch.Tensor:
    """Return the mean of all processes' x."""
    if count() == 1:
        return x
    return _summed(x) / count()


def of_first(value: float, device: torch.device) -> float:
    """Return the first process's value."""
    if count() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared)


@torch.no_grad()
def as_first(tensors: Iterable[torch.Tensor]) -> None:
    """Give all processes the first one's tensors, in place."""
    if count() == 1:
        return
    for tensor in tensors:
        shared = tensor.contiguous()
        dist.broadcast(shared, 0)
        tensor.copy_(shared)


def check_agreed(value: float, what: str, device: torch.device) -> None:
    """Raise PtqsrError, in every process, where not all have the same value."""
    if count() == 1:
        return
    ends = []
    for end in (dist.ReduceOp.MIN, dist.ReduceOp.MAX):
        shared = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(shared, end)
        ends.append(float(shared))
    if ends[0] != ends[1]:
        raise PtqsrError(
            f"{what} is {ends[0]:g} in one process and {ends[1]:g} in another; all must see one "
            "folder"
        )
