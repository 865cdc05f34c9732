"""Several processes that train one network: `torchrun`, and PyTorch's DistributedDataParallel.

Every process takes its share of each batch. Where there is one process nothing here does anything.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ptqsr.errors import PtqsrError


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that `torchrun` started, if it did; give this process's device.

    "cuda" becomes the GPU of its number on this machine. Processes that have joined before stay
    joined.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield device
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        if int(os.environ.get("LOCAL_RANK", "0")) >= torch.cuda.device_count():
            raise PtqsrError(f"device {device}: PyTorch finds no such GPU; start fewer processes")
    if dist.is_initialized():
        yield device
        return
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def count() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if count() > 1 else 0


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


def mean_figures(figures: dict[str, float], device: torch.device) -> dict[str, float]:
    """Return the means of all processes' figures, which have the same names everywhere."""
    if count() == 1:
        return figures
    values = torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
    return dict(zip(figures, mean_over_processes(values).tolist(), strict=True))


def of_first(value: float, device: torch.device) -> float:
    """Return the first process's value."""
    if count() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared)
