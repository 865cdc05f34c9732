"""What is measured: our operations, on given tensors of any device, and PyTorch beside them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.gpu.graphs import Candidate, copies
from ptqsr import ops
from ptqsr.points import UniversalSet

Operations = dict[str, Callable[[], Any]]

LAST = torch.channels_last
SET = UniversalSet.preset("dfsq-107")
# Tensors that an operation must read or write at least, in bytes of a value: of x, of a result.
# The fake quantization reads x a second time, when its statistics are known.
MOVED = {
    "channel_stats": (1, 0),
    "subset_encode": (1, 1),
    "subset_fake_quant": (2, None),
    "uniform_encode": (1, 1),
    "uniform_fake_quant": (1, None),
    "torch copy_": (1, None),
}  # None: of x's dtype


def activation(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape).to(dtype).contiguous(memory_format=LAST)


def points(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return 16 points for every channel of x, and their denominator."""
    integers = torch.from_numpy(SET.integers).int()
    chosen = integers[torch.linspace(0, len(integers) - 1, 16).long()]
    return chosen.repeat(x.shape[1], 1).to(x.device), SET.denominator


def elementwise(x: torch.Tensor) -> Operations:
    """Return quantizers and statistics of x; their parameters are the same on every device."""
    device, (q, d) = x.device, points(x)
    signed = torch.zeros(x.shape[1], dtype=torch.bool, device=device)
    mean = torch.zeros(x.shape[:2], device=device)
    scale = torch.full(x.shape[:2], 4.5, device=device)
    step = torch.tensor(0.02, device=device)
    lowest = torch.tensor(-128, dtype=torch.int32, device=device)
    return {
        "channel_stats": lambda: ops.channel_stats(x),
        "subset_encode": lambda: ops.subset_encode(x, q, d, mean, scale),
        "subset_fake_quant": lambda: ops.subset_fake_quant(x, q, signed, d),
        "uniform_encode": lambda: ops.uniform_encode(x, step, lowest, 8),
        "uniform_fake_quant": lambda: ops.uniform_fake_quant(x, step, lowest, 8),
    }


def elementwise_candidates(shape: tuple[int, ...], dtype: torch.dtype) -> list[Candidate]:
    x = activation(shape, dtype).cuda()
    size = x.element_size()
    xs = [x, *(x.clone() for _ in range(copies(x.numel() * size) - 1))]
    turns: list[Operations] = [
        {**elementwise(x), "torch copy_": partial(torch.empty_like(x).copy_, x)} for x in xs
    ]
    return [
        Candidate(
            name, [turn[name] for turn in turns],
            x.numel() * (read * size + (size if written is None else written)), "copy",
            () if name == "torch copy_" else ("torch copy_",),
        )
        for name, (read, written) in MOVED.items()
    ]  # fmt: skip


def products(a: torch.Tensor, b: torch.Tensor) -> Operations:
    """Return A B^T of int8 [M, K] and [N, K], and of as many numbers of 4 bits."""
    four_a, four_b = (t[:, : t.shape[1] // 2].contiguous().view(torch.uint8) for t in (a, b))
    return {"gemm_s8": lambda: ops.gemm_s8(a, b), "gemm_s4": lambda: ops.gemm_s4(four_a, four_b)}


def matrices(m: int, n: int, k: int) -> list[torch.Tensor]:
    return [torch.randint(-128, 128, (rows, k), dtype=torch.int8) for rows in (m, n)]


def product_candidates(size: int, architecture: int) -> list[Candidate]:
    a, b = (t.cuda() for t in matrices(size, size, size))
    half_a, half_b = a.half(), b.half()
    ours, work = products(a, b), 2.0 * size**3
    four = "s4" if architecture < 90 else "s8"
    return [
        Candidate("gemm_s8", [ours["gemm_s8"]], work, "s8", ("torch._int_mm", "torch float16")),
        Candidate("gemm_s4", [ours["gemm_s4"]], work, four, ("gemm_s8",)),
        Candidate("torch._int_mm", [lambda: torch._int_mm(a, b.t())], work, "s8"),
        Candidate("torch float16", [lambda: half_a @ half_b.t()], work, "float16"),
    ]


def codes(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8).contiguous(memory_format=LAST)


def convolution(x: torch.Tensor, levels: torch.Tensor, bits: int) -> Callable[[], torch.Tensor]:
    """Return `uniform_conv2d` of codes of 8 bits, or of their `bits` lowest, to codes, with ReLU.

    levels: int16 [O, C, 3, 3].
    """
    device, out = x.device, len(levels)
    x = (x & ((1 << bits) - 1)).contiguous(memory_format=LAST)
    step = torch.tensor(0.02, device=device)
    zero = torch.tensor(0, dtype=torch.int32, device=device)
    # Of results about as large as codes are.
    steps = torch.full((out,), 1 / (7 << bits), device=device)
    bias = torch.linspace(-1, 1, out).to(device)
    return lambda: ops.uniform_conv2d(
        [x], step, zero, bits, levels, steps, bias, padding=1, activation="relu",
        out_step=step, out_lowest=zero, out_bits=bits,
    )  # fmt: skip


def subset_convolution(
    x: torch.Tensor, levels: torch.Tensor, before: bool = False
) -> Callable[[], torch.Tensor]:
    """Return `subset_conv2d` of float16 to float16, with ReLU and statistics.

    levels: int16 [O, C, 3, 3]. before: x is encoded in a pass of its own, not on the way.
    """
    device, out, (q, d) = x.device, len(levels), points(x)
    mean = torch.zeros(x.shape[:2], device=device)
    scale = torch.linspace(3, 6, x.shape[1]).to(device).expand(x.shape[:2]).contiguous()
    steps, bias = torch.full((out,), 0.01, device=device), torch.linspace(-1, 1, out).to(device)

    def run() -> torch.Tensor:
        part = ops.subset_encode(x, q, d, mean, scale) if before else x
        return ops.subset_conv2d(
            [part], q, mean, scale, d, levels, steps, bias, padding=1, activation="relu",
            out_dtype=torch.float16, statistics=True,
        )[0]  # fmt: skip

    return run


def weights(out: int, channels: int, bits: int) -> torch.Tensor:
    half = 1 << (bits - 1)
    return torch.randint(-half, half, (out, channels, 3, 3)).to(torch.int16)


def conv_work(shape: tuple[int, ...], out: int) -> float:
    """Return the operations of a 3x3 convolution with padding 1."""
    return 2.0 * 9 * prod(shape) * out


def conv_candidates(shape: tuple[int, ...], out: int, architecture: int) -> list[Candidate]:
    xs = [codes(shape).cuda()]
    xs += [xs[0].clone() for _ in range(copies(xs[0].numel()) - 1)]
    halves = [x.half() for x in xs]
    numbers = [activation(shape, torch.float16).cuda() for _ in xs]
    weight = torch.randn(out, shape[1], 3, 3).half().cuda().contiguous(memory_format=LAST)
    bias = torch.randn(out).half().cuda()
    work, four = conv_work(shape, out), "s4" if architecture < 90 else "s8"
    levels = {bits: weights(out, shape[1], bits).cuda() for bits in (8, 4)}
    cudnn = [lambda x=x: F.conv2d(x, weight, bias, padding=1).relu_() for x in halves]
    return [
        Candidate(
            "uniform_conv2d W8A8", [convolution(x, levels[8], 8) for x in xs], work, "s8",
            ("CUTLASS int8", "cuDNN float16"),
        ),
        Candidate(
            "uniform_conv2d W4A4", [convolution(x, levels[4], 4) for x in xs], work, four,
            ("uniform_conv2d W8A8", "CUTLASS int4", "cuDNN float16"),
        ),
        Candidate(
            "subset_conv2d W4A4", [subset_convolution(x, levels[4]) for x in numbers], work, "s8",
            ("uniform_conv2d W8A8", "cuDNN float16"),
        ),
        Candidate(
            "subset_conv2d W4A4, encoded before",
            [subset_convolution(x, levels[4], before=True) for x in numbers], work, "s8",
            ("subset_conv2d W4A4",),
        ),
        Candidate("cuDNN float16", cudnn, work, "float16"),
    ]  # fmt: skip
