"""The ladder of `subset_encode`, channels_last, 16 levels, one thread; then the operations.

    python -m benchmarks.kernels.subset_encode --json benchmarks/results/subset_encode.json

    0 torch.bucketize   84 x the time of a copy; knows no points per channel
    1 scalar            37 x  one pass, no temporaries, but a branch per threshold
    2 float            4.2 x  16 values against a threshold at once, no branch
    3 int16            1.5 x  32 values: u as a count of half-steps
    4 bytes            1.2 x  64 values: the count through two windows of 8 bits; no mask registers

(AMD EPYC Zen 4, AVX-512, shared with other work: see the quartiles in the JSON.) Older forms lie in
`subset_encode/`; the last one is in `csrc/cpu/subset_bytes.h`. All but the PyTorch form give the
same bytes. The claims, against a copy of the same float32 tensor of
1x64x180x320 at 4 bits: at most 1.6 times for `subset_fake_quant`, and for `channel_stats`,
`normalisation` and `subset_encode` together.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.timer import Timing, as_json, compare, write
from ptqsr import native, ops
from ptqsr.points import UniversalSet

SHAPE = (1, 64, 180, 320)
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC", "-w")
Encode = Callable[[], object]


def compiled(source: Path, folder: Path) -> Any:
    """Return the `encode` of an older version."""
    library = folder / f"{source.stem}.so"
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, *FLAGS, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library)).encode


def older(
    encode: Any, x: torch.Tensor, points: torch.Tensor, mean: torch.Tensor, ratio: torch.Tensor
) -> Callable[[], torch.Tensor]:
    out = torch.empty_like(x, dtype=torch.int8)
    thresholds = ops.thresholds(points).t().contiguous()
    table = points.t().to(torch.int8).contiguous()
    pixels, channels, levels = x.shape[2] * x.shape[3], x.shape[1], points.shape[1]

    def run() -> torch.Tensor:
        encode(
            ctypes.c_void_p(x.data_ptr()),
            ctypes.c_int64(pixels),
            ctypes.c_int64(channels),
            ctypes.c_void_p(thresholds.data_ptr()),
            ctypes.c_void_p(table.data_ptr()),
            ctypes.c_int64(levels),
            ctypes.c_void_p(mean.data_ptr()),
            ctypes.c_void_p(ratio.data_ptr()),
            ctypes.c_void_p(out.data_ptr()),
        )
        return out

    return run


def bucketize(
    x: torch.Tensor, points: torch.Tensor, d: int, mean: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """PyTorch, all channels alike: the search alone allows no points per channel."""
    row = points[0].float()
    u = (x - mean[..., None, None]) * (d / scale)[..., None, None]
    return points[0].to(torch.int8)[torch.bucketize(u.contiguous(), (row[1:] + row[:-1]) / 2)]


def report(title: str, timings: list[Timing], figures: dict[str, Any]) -> None:
    figures[title] = as_json(timings)
    print(title)
    for timing in timings:
        print(timing.line("subset_encode", "x".join(map(str, SHAPE))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--levels", type=int, default=16)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    universal_set = UniversalSet.preset("dfsq-107")
    d = universal_set.denominator
    integers = torch.from_numpy(universal_set.integers).int()
    row = integers[torch.linspace(0, len(integers) - 1, arguments.levels).long()]
    points = row.repeat(SHAPE[1], 1)
    nonnegative = torch.zeros(SHAPE[1], dtype=torch.bool)
    figures: dict[str, Any] = {}

    x = torch.randn(SHAPE).contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(x)
    mean, scale = ops.normalisation(*ops.channel_stats(x), nonnegative)
    expected = ops.subset_encode(x, points, d, mean, scale)
    steps: dict[str, Encode] = {
        "copy of the floats": lambda: out.copy_(x),
    }
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted((Path(__file__).parent / "subset_encode").glob("*.cpp")):
            if source.stem.endswith("int16") and not native.cpu_isa().startswith("avx512"):
                continue  # written for it
            step = older(compiled(source, Path(folder)), x, points, mean, d / scale)
            assert torch.equal(step(), expected), source
            steps[source.stem.replace("_", " ", 1)] = step
    steps["4 bytes (ptqsr)"] = lambda: ops.subset_encode(x, points, d, mean, scale)
    timings = compare(steps, rounds=arguments.rounds)
    # For itself: the memory that it takes and gives back would slow down the others.
    slow = {
        "copy of the floats": steps["copy of the floats"],
        "0 torch.bucketize": lambda: bucketize(x, points, d, mean, scale),
    }
    timings[1:1] = compare(slow, rounds=5)[1:]
    report("ladder", timings, figures)

    for layout in (torch.channels_last, torch.contiguous_format):
        x = x.contiguous(memory_format=layout)
        out = torch.empty_like(x)

        def encode(x: torch.Tensor = x) -> torch.Tensor:
            statistics = ops.normalisation(*ops.channel_stats(x), nonnegative)
            return ops.subset_encode(x, points, d, *statistics)

        operations: dict[str, Encode] = {
            "copy of the floats": lambda x=x, out=out: out.copy_(x),
            "channel_stats": lambda x=x: ops.channel_stats(x),
            "subset_encode": lambda x=x: ops.subset_encode(x, points, d, mean, scale),
            "statistics and encode": encode,
            "subset_fake_quant": lambda x=x: ops.subset_fake_quant(x, points, nonnegative, d),
        }
        title = str(layout).removeprefix("torch.")
        report(title, compare(operations, rounds=arguments.rounds), figures)
    write(arguments.json, figures)


if __name__ == "__main__":
    main()
