"""The body of EDSR-baseline in static int8 as other runtimes run it, and ours beside them.

    python -m benchmarks.body --threads 1,2 --json benchmarks/results/body.json

16 x [conv 3x3 64->64, ReLU, conv, +x] on 1x64x180x320: 32 convolutions, 135.9 GOP; and one of them
with ReLU, 4.247 GOP. Every candidate is run once a round, in one process. PyTorch's int8 goes from
codes to codes; ONNX Runtime's and OpenVINO's also quantize the input and dequantize the output
(about a hundredth of the body). OpenVINO in float32 is held to it: of itself it takes bf16 where
the CPU has it, which is a row of its own. "CPU" is the time on processors: with one thread it holds
still where others use the machine; with more it counts threads that wait busily.

Ours are in benchmarks/body_ours.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

import torch
from torch import nn

from benchmarks.body_ours import candidates as ours
from benchmarks.timer import Timing, as_json, compare, write
from ptqsr.benchmarking import onnx_int8, peers
from ptqsr.benchmarking.onednn import Encoding, Int8Blocks, Int8Conv
from ptqsr.exporting import write_static
from ptqsr.models.edsr import ResBlock

SHAPE, BLOCKS = (1, 64, 180, 320), 16
GOP = {"conv": 2 * 9 * 64 * 64 * 180 * 320 / 1e9, "body": 2 * BLOCKS * 4.246732800}
Candidates = dict[str, Callable[[], object]]


class Files:
    """The body as ONNX files, made once."""

    def __init__(self, body: nn.Module, x: torch.Tensor, folder: Path) -> None:
        self.float32, self.int8 = folder / "float32.onnx", folder / "int8.onnx"
        write_static(body, x, self.float32)
        onnx_int8.quantize(self.float32, self.int8, None, x)


def theirs(
    body: nn.Sequential, x: torch.Tensor, files: Files, threads: int
) -> dict[str, Callable[[], Callable[[], object]]]:
    """Return how to make each peer; that raises where it is not installed."""
    torch.set_num_threads(threads)
    x = x.contiguous(memory_format=torch.channels_last)
    body = body.to(memory_format=torch.channels_last)
    first = body[0].body[0]
    with torch.inference_mode():
        chain = Int8Blocks([(block.body[0], block.body[2]) for block in body], x)
        here, after = Encoding.of(x), Encoding.of(first(x).relu())
        codes = here.encode(x)
    conv = Int8Conv(first, here, after, x.shape)
    plain = x.contiguous()
    onnx, openvino = peers.onnxruntime_run, peers.openvino_run
    int8, float32 = str(files.int8), str(files.float32)
    return {
        "conv: torch int8": lambda: lambda: conv.relu(codes),
        "conv: torch float32": lambda: lambda: first(x).relu_(),
        # The clone is for the next round: the residual is added in place.
        "body: torch int8": lambda: lambda: chain(codes.clone()),
        "body: torch float32": lambda: lambda: body(x),
        "body: ONNX Runtime int8": lambda: onnx(int8, plain, threads),
        "body: ONNX Runtime float32": lambda: onnx(float32, plain, threads),
        "body: OpenVINO int8": lambda: openvino(int8, plain, threads),
        "body: OpenVINO float32": lambda: openvino(float32, plain, threads),
        "body: OpenVINO bf16": lambda: openvino(float32, plain, threads, precision="bf16"),
    }


def show(part: str, timings: list[Timing], own: set[str]) -> None:
    """Print GOP/s, and how many times as fast as the others, round by round."""
    base = timings[0]
    heads = f"{'ms':>9} {'quartiles':>20} {'best':>9} {'GOP/s':>8} {'CPU ms':>9} {'GOP/s':>8}"
    print(f"{'':<30}{heads}  speed over {base.name}")
    for timing in timings:
        spread = f"[{timing.low_ms:.2f}, {timing.high_ms:.2f}]"
        speed = GOP[part] / timing.median_ms * 1e3
        print(
            f"{timing.name:<30}{timing.median_ms:>9.2f} {spread:>20} "
            f"{min(timing.rounds_ms):>9.2f} {speed:>8.1f} "
            f"{timing.cpu_ms:>9.2f} {GOP[part] / timing.cpu_ms * 1e3:>8.1f}  "
            f"{speed_over(timing, base)}"
        )
    for timing in timings:
        for other in timings:
            if timing.name in own and other.name not in own:
                print(f"  {timing.name} over {other.name}: {speed_over(timing, other)}")


def speed_over(timing: Timing, other: Timing) -> str:
    """Return how many times as fast a candidate is as another: median and quartiles of rounds."""
    pairs = zip(other.rounds_ms, timing.rounds_ms, strict=True)
    ratios = [theirs / ours for theirs, ours in pairs]
    low, _, high = quantiles(ratios, n=4)
    return f"{median(ratios):.3f} x [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--part", choices=GOP, nargs="+", default=list(GOP))
    parser.add_argument("--only", nargs="*", default=[""], help="candidates with these words")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    body = nn.Sequential(*(ResBlock(64, 1.0, False) for _ in range(BLOCKS))).eval()
    body.requires_grad_(False)
    x = torch.rand(SHAPE) * 2 - 1
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = Files(body, x, Path(folder))
        for threads in map(int, arguments.threads.split(",")):
            own = ours(threads)
            makers = theirs(body, x, files, threads)
            torch.set_num_threads(threads)
            for part in arguments.part:
                names = [
                    name
                    for name in (*makers, *own)
                    if name.startswith(part) and any(word in name for word in arguments.only)
                ]
                chosen = {name: own[name] if name in own else makers[name]() for name in names}
                print(f"\n{part}, {threads} threads, {arguments.rounds} rounds")
                with torch.inference_mode():
                    timings = compare(chosen, rounds=arguments.rounds)
                show(part, timings, set(own))
                figures[f"{part}, {threads} threads"] = as_json(timings)
    write(arguments.json, figures)


if __name__ == "__main__":
    main()
