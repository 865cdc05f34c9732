"""How long a float network takes, and the quantized one simulated and in integers."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from ptqsr.benchmarking import ours
from ptqsr.benchmarking.task import Run, Unavailable
from ptqsr.benchmarking.timer import Timing, compare
from ptqsr.reporting.subject import Subject

SIDE, ROUNDS = 64, 3
FLOAT, SIMULATED, DEPLOYED = "float", "simulated", "deployed"


@dataclass(frozen=True)
class Latency:
    """Timings by form, of one input of SIDE x SIDE pixels; why a form that is missing is so."""

    timings: dict[str, Timing]
    missing: dict[str, str]
    threads: int


def latency(subject: Subject) -> Latency:
    """Time the forms of a network in turn, on as many threads as PyTorch has."""
    channels = 1 if subject.floating.colours == "y" else 3
    x = torch.rand(1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    # As `ptqsr benchmark` runs it, where it is fastest.
    floating = copy.deepcopy(subject.floating)
    floating.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    runs = {
        FLOAT: _run(floating, x.contiguous(memory_format=torch.channels_last)),
        SIMULATED: _run(subject.quantized, x),
    }
    missing = {}
    try:
        runs[DEPLOYED] = _run(ours.deploy(subject.quantized), x)
    except Unavailable as reason:
        missing[DEPLOYED] = str(reason)
    timings = {timing.name: timing for timing in compare(runs, rounds=ROUNDS)}
    return Latency(timings, missing, torch.get_num_threads())


def _run(network: nn.Module, x: torch.Tensor) -> Run:
    @torch.inference_mode()
    def run() -> object:
        return network(x)

    return run
