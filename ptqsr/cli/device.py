"""Where networks run: --device, checked before the work."""

from __future__ import annotations

import re
from typing import Annotated

import torch
import typer

from ptqsr.errors import PtqsrError
from ptqsr.ops.cuda.usable import gpu_problem

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
        problem = gpu_problem(device)
        if problem is not None:
            raise PtqsrError(f"--device {name}: {problem}; or use --device cpu")
        torch.backends.cudnn.allow_tf32 = False
    return device
