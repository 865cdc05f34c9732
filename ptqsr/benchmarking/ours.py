"""The candidates of this package: the float network, and a checkpoint in its two forms."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import ptqsr
from ptqsr import checkpoint
from ptqsr.benchmarking.task import Run, Task, Unavailable
from ptqsr.errors import PtqsrError
from ptqsr.models import SRNetwork


def float32(task: Task) -> Run:
    """PyTorch in float32, network and input in channels_last."""
    network = task.network()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return inference(network, task.input().contiguous(memory_format=torch.channels_last), task)


def fake_quantized(task: Task) -> Run:
    """The checkpoint simulated in floating point, as `ptqsr upscale` runs it."""
    return inference(quantized(task), task.input(), task)


def deployed(task: Task) -> Run:
    """The checkpoint in integers, as `ptqsr.deploy` makes it."""
    return inference(deploy(quantized(task)), task.input(), task)


def deploy(network: SRNetwork, device: str = "cpu", **options: Any) -> nn.Module:
    """Return what `ptqsr.deploy` makes of a quantized network; raises Unavailable with its reason.

    The result is called as the network is: float32 [N, C, H, W] -> [N, C, scale H, scale W].
    """
    try:
        module: nn.Module = ptqsr.deploy(network, device=device, **options)
    except PtqsrError as error:
        raise Unavailable(str(error)) from None
    return module


def inference(module: nn.Module, x: torch.Tensor, task: Task) -> Run:
    """Return one call of a module without autograd, on the task's threads."""
    torch.set_num_threads(task.threads)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        y: torch.Tensor = module(x)
        return y

    return run


def quantized(task: Task) -> SRNetwork:
    """Return the checkpoint's network; raises Unavailable where there is none."""
    if task.checkpoint is None:
        raise Unavailable("a float network; make a checkpoint of it with `ptqsr calibrate`")
    return checkpoint.load(task.checkpoint)
