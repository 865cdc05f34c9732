"""The candidates on a GPU: from a float32 picture that is there to a float32 picture there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import nn

from ptqsr.benchmarking import ours
from ptqsr.benchmarking.run import FLOAT, Candidate
from ptqsr.benchmarking.task import Task, Unavailable

Picture = Callable[[], torch.Tensor]  # one inference


class Half(nn.Module):
    """A network in float16 and channels_last, called as the float32 one is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.network(x.to(torch.float16, memory_format=torch.channels_last))
        return y.float()


def float32(task: Task) -> Picture:
    """PyTorch in float32."""
    return _float32(task, tf32=False)


def tf32(task: Task) -> Picture:
    """PyTorch in float32, products of 11 bits."""
    if torch.cuda.get_device_capability(task.device) < (8, 0):
        raise Unavailable("compute capability 8.0 is the first with TF32")
    return _float32(task, tf32=True)


def _float32(task: Task, tf32: bool) -> Picture:
    network = _on(task.network(), task)

    def run(x: torch.Tensor) -> torch.Tensor:
        torch.backends.cudnn.allow_tf32 = tf32
        y: torch.Tensor = network(x)
        return y

    return _inference(run, task)


def float16(task: Task) -> Picture:
    """PyTorch in float16, channels_last."""
    return _inference(_on(Half(task.network()), task), task)


def graph(task: Task) -> Picture:
    """The same as one CUDA graph."""
    run, stream = float16(task), torch.cuda.Stream(task.device)
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize(task.device)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        y = run()

    def replay() -> torch.Tensor:
        captured.replay()
        return y

    return replay


def compiled(task: Task) -> Picture:
    """The same by torch.compile, which tries kernels and captures graphs of its own."""
    with suppress(ImportError):  # its tables would stand among ours
        vars(import_module("torch._inductor.select_algorithm"))["PRINT_AUTOTUNE"] = False
    torch._dynamo.reset()
    module = _on(Half(task.network()), task)
    return _inference(torch.compile(module, mode="max-autotune", dynamic=False), task)


def tensorrt(task: Task) -> Picture:
    """TensorRT in float16 by torch_tensorrt."""
    import_module("torch_tensorrt")
    torch._dynamo.reset()
    module = _on(Half(task.network()), task)
    ours = torch.compile(
        module, backend="torch_tensorrt", dynamic=False, options={"use_explicit_typing": True}
    )
    return _inference(ours, task)


def fake_quantized(task: Task) -> Picture:
    """The checkpoint simulated in floating point."""
    return _inference(_on(ours.quantized(task), task), task)


def deployed(task: Task) -> Picture:
    """The checkpoint in integers, as `ptqsr.deploy` makes it: a CUDA graph from the second on."""
    return _inference(ours.deploy(ours.quantized(task), task.device), task)


def launched(task: Task) -> Picture:
    """The same without CUDA graphs, in which no step shows."""
    return _inference(ours.deploy(ours.quantized(task), task.device, graphs=0), task)


FAKE = "fake-quantized"
# What is looked at step by step.
STEP_BY_STEP = {"float16": float16, "deployed": launched}
CANDIDATES: dict[str, Candidate] = {
    FLOAT: Candidate(float32, is_peer=False),
    "float32, TF32": Candidate(tf32),
    "float16": Candidate(float16),
    "float16, CUDA graph": Candidate(graph),
    "float16, torch.compile": Candidate(compiled),
    FAKE: Candidate(fake_quantized, is_peer=False),
    "deployed": Candidate(deployed, is_peer=False),
}
if find_spec("torch_tensorrt") is not None:
    CANDIDATES["TensorRT float16"] = Candidate(tensorrt)


def _on(network: nn.Module, task: Task) -> nn.Module:
    return network.to(task.device).eval().requires_grad_(False)


def _inference(function: Callable[[torch.Tensor], torch.Tensor], task: Task) -> Picture:
    x = task.input()

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return function(x)

    return run
