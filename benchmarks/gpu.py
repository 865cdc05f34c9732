"""Operations on a GPU beside PyTorch's: memory-bound kernels, products, convolutions.

    python -m benchmarks.gpu --json benchmarks/results/gpu.json

Every candidate is a CUDA graph of REPEATS runs, replayed once a round; a time is that of one run.
Elementwise kernels stand beside a copy of their input, `gemm_s8` beside `torch._int_mm` and
float16, `uniform_conv2d` (codes to codes with ReLU) beside cuDNN in float16, channels_last.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.timer import as_json, compare, write
from ptqsr import ops
from ptqsr.points import UniversalSet

REPEATS = 20
SHAPES = [(1, 64, 270, 480), (8, 64, 270, 480)]


def captured(run: Callable[[], object]) -> Callable[[], None]:
    """Return what replays REPEATS runs as one graph and waits for it."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            run()

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay


def elementwise(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    x = torch.randn(shape, device="cuda").to(dtype).contiguous(memory_format=torch.channels_last)
    universal_set = UniversalSet.preset("dfsq-107")
    integers = torch.from_numpy(universal_set.integers).int().cuda()
    points = integers[torch.linspace(0, len(integers) - 1, 16).long()].repeat(shape[1], 1)
    d, signed = universal_set.denominator, torch.zeros(shape[1], dtype=torch.bool, device="cuda")
    mean, scale = ops.normalisation(*ops.channel_stats(x), signed)
    step, lowest = torch.tensor(0.02).cuda(), torch.tensor(-128, dtype=torch.int32).cuda()
    out = torch.empty_like(x)
    return {
        "copy": lambda: out.copy_(x),
        "channel_stats": lambda: ops.channel_stats(x),
        "subset_encode": lambda: ops.subset_encode(x, points, d, mean, scale),
        "subset_fake_quant": lambda: ops.subset_fake_quant(x, points, signed, d),
        "uniform_encode": lambda: ops.uniform_encode(x, step, lowest, 8),
        "uniform_fake_quant": lambda: ops.uniform_fake_quant(x, step, lowest, 8),
    }


def products(size: int) -> dict[str, Callable[[], object]]:
    a = torch.randint(-128, 128, (size, size), dtype=torch.int8, device="cuda")
    b = torch.randint(-128, 128, (size, size), dtype=torch.int8, device="cuda")
    half_a, half_b = a.half(), b.half()
    packed_a, packed_b = (t[:, : size // 2].contiguous().view(torch.uint8) for t in (a, b))
    return {
        "gemm_s8": lambda: ops.gemm_s8(a, b),
        "gemm_s4": lambda: ops.gemm_s4(packed_a, packed_b),
        "torch._int_mm": lambda: torch._int_mm(a, b.t()),
        "torch float16": lambda: half_a @ half_b.t(),
    }


def convolutions(shape: tuple[int, ...], out: int) -> dict[str, Callable[[], object]]:
    last = torch.channels_last
    codes = torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda")
    codes = codes.contiguous(memory_format=last)
    step, zero = torch.tensor(0.02).cuda(), torch.tensor(0, dtype=torch.int32).cuda()
    steps, bias = torch.full((out,), 1e-3).cuda(), torch.randn(out).cuda()

    def ours(bits: int) -> Callable[[], object]:
        half = 1 << (bits - 1)
        levels = torch.randint(-half, half, (out, shape[1], 3, 3), device="cuda").to(torch.int16)
        x = codes.clone().clamp_(max=(1 << bits) - 1)
        return lambda: ops.uniform_conv2d(
            [x], step, zero, bits, levels, steps, bias, padding=1, activation="relu",
            out_step=step, out_lowest=zero, out_bits=bits,
        )  # fmt: skip

    x = torch.randn(shape, device="cuda").half().contiguous(memory_format=last)
    weight = torch.randn(out, shape[1], 3, 3, device="cuda").half().contiguous(memory_format=last)
    half_bias = bias.half()
    return {
        "uniform_conv2d W8A8": ours(8),
        "uniform_conv2d W4A4": ours(4),
        "cuDNN float16": lambda: F.conv2d(x, weight, half_bias, padding=1).relu_(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: no GPU here")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    groups: dict[str, dict[str, Callable[[], object]]] = {}
    for shape in SHAPES:
        size = "x".join(map(str, shape))
        for dtype in (torch.float32, torch.float16):
            groups[f"{size} {dtype}"] = elementwise(shape, dtype)
        groups[f"3x3 64->64 {size}"] = convolutions(shape, 64)
        groups[f"3x3 64->256 {size}"] = convolutions(shape, 256)
    groups["4096 x 4096 x 4096"] = products(4096)
    figures: dict[str, Any] = {}
    for title, candidates in groups.items():
        graphs = {name: captured(run) for name, run in candidates.items()}
        timings = compare(graphs, rounds=arguments.rounds)
        figures[title] = as_json(timings)
        for timing in timings:
            print(
                f"{title:<34} {timing.name:<22} {timing.median_ms / REPEATS * 1e3:9.1f} us  "
                f"{timing.ratio:6.2f} x [{timing.ratio_low:.2f}, {timing.ratio_high:.2f}]",
                flush=True,
            )
    write(arguments.json, {"repeats": REPEATS, **figures})


if __name__ == "__main__":
    main()
