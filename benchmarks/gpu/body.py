"""The body of EDSR-baseline, 32 convolutions, ours beside PyTorch's.

Graphs on all sides: eager PyTorch, which launches one by one, is `ptqsr benchmark --device cuda`'s.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.body_ours import BLOCKS, Ours, Shape
from benchmarks.gpu.graphs import Candidate
from ptqsr.models.edsr import ResBlock

PEERS = ("torch float16", "torch TF32", "torch float32")
STATIC, DFSQ = "body W8A8", "body DFSQ W4A4"


def work(shape: Shape) -> float:
    """Return the operations of the body."""
    n, channels, height, width = shape
    return 2.0 * 2 * BLOCKS * 9 * channels**2 * n * height * width


def candidates(shape: Shape, architecture: int) -> list[Candidate]:
    """Return the body by our operations, from codes to codes and as deployed, and by PyTorch's."""
    ours = Ours(shape, "cuda")
    x = ours.numbers()
    half = x.half()
    four = "s4" if architecture < 90 else "s8"
    body = nn.Sequential(*(ResBlock(64, 1.0, False) for _ in range(BLOCKS))).eval().cuda()
    body = body.requires_grad_(False).to(memory_format=torch.channels_last)
    halves = nn.Sequential(*(ResBlock(64, 1.0, False) for _ in range(BLOCKS))).eval().cuda().half()
    halves = halves.requires_grad_(False).to(memory_format=torch.channels_last)

    def float32(tf32: bool) -> torch.Tensor:
        # Read when a convolution is launched: of a graph, when it is captured.
        torch.backends.cudnn.allow_tf32 = tf32
        y: torch.Tensor = body(x)
        return y

    operations = work(shape)
    return [
        Candidate("body W8A8, codes", [ours.uniform_body(8)], operations, "s8", PEERS),
        Candidate(STATIC, [ours.uniform_body_float(half)], operations, "s8", PEERS),
        Candidate("body W4A4, codes", [ours.uniform_body(4)], operations, four, PEERS),
        Candidate(DFSQ, [ours.subset_body(half)], operations, "s8", (*PEERS, STATIC)),
        Candidate("torch float16", [lambda: halves(half)], operations, "float16"),
        Candidate("torch TF32", [lambda: float32(True)], operations, "float16"),
        Candidate("torch float32", [lambda: float32(False)], operations, "float16"),
    ]
