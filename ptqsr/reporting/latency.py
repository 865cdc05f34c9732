"""How long a float network takes, and the quantized one simulated and in integers."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from ptqsr.benchmarking import ours
from ptqsr.benchmarking.task import Run, Unavailable
from ptqsr.benchmarking.timer import Timing, compare
from ptqsr.models import device_of
from ptqsr.reporting.subject import Subject
from ptqsr.reporting.words import count

SIDE, ROUNDS = 64, 3
FLOAT, SIMULATED, DEPLOYED = "float", "simulated", "deployed"


@dataclass(frozen=True)
class Latency:
    """Timings by form, of one input of SIDE x SIDE pixels; why a form that is missing is so.

    `where`: the machine's part that ran them, in words.
    """

    timings: dict[str, Timing]
    missing: dict[str, str]
    where: str


def latency(subject: Subject) -> Latency:
    """Time the forms of a network in turn, on its device; on the CPU with PyTorch's threads."""
    channels = 1 if subject.floating.colours == "y" else 3
    device = device_of(subject.floating)
    x = torch.rand(1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    # As `ptqsr benchmark` runs it, where it is fastest.
    floating = copy.deepcopy(subject.floating)
    floating.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    runs = {
        FLOAT: _run(floating, x.contiguous(memory_format=torch.channels_last)),
        SIMULATED: _run(subject.quantized, x),
    }
    missing = {}
    try:
        runs[DEPLOYED] = _run(ours.deploy(subject.quantized, str(device)), x)
    except Unavailable as reason:
        missing[DEPLOYED] = str(reason)
    timings = {timing.name: timing for timing in compare(runs, rounds=ROUNDS)}
    where = count(torch.get_num_threads(), "thread")
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    return Latency(timings, missing, where)


def _run(network: nn.Module, x: torch.Tensor) -> Run:
    @torch.inference_mode()
    def run() -> object:
        y = network(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        return y

    return run
