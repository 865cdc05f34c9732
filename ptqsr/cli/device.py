"""Where networks run: --device, checked before the work."""

from __future__ import annotations

import re
from typing import Annotated

import torch
import typer

from ptqsr import native
from ptqsr.errors import PtqsrError, one_line

Device = Annotated[str, typer.Option(help="Where the network runs: cpu, cuda, cuda:1, ...")]


def use_device(name: str) -> torch.device:
    """Return the device of that name, ready for networks whose figures are compared with others'.

    GPUs convolve float32 as it is from here on: PyTorch's default, TF32, keeps 11 bits of it.
    Raises PtqsrError, with what mends it, for a device that is not there or has no kernels of ours.
    """
    if re.fullmatch(r"cpu|cuda(:\d{1,4})?", name) is None:
        raise PtqsrError(f"--device {name}: choose cpu, cuda, cuda:1, ...")
    device = torch.device(name)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        problem = _problem(device)
        if problem is not None:
            raise PtqsrError(f"--device {name}: {problem}; or use --device cpu")
        torch.backends.cudnn.allow_tf32 = False
    return device


def _problem(device: torch.device) -> str | None:
    """Return why a GPU cannot be used, and what mends it."""
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
