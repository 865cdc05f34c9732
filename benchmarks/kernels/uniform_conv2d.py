"""The ladder of `uniform_conv2d`: codes to codes with ReLU, 1x64x180x320, 64 to 64, one thread.

    python -m benchmarks.kernels.uniform_conv2d --json benchmarks/results/uniform_conv2d.json

Older forms lie in `uniform_conv2d/`; the last one is in `csrc/cpu/conv_tiles.h`. All give the bytes
of the PyTorch reference, which is checked before they are timed. The trials are what was tried on
the last form; what gains nothing stayed out.
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernels.ladder import PEAK, compiled, peak, pointer, require_vnni, show
from benchmarks.timer import as_json, compare, write
from ptqsr import native, ops

SHAPE = (1, 64, 180, 320)
SLOW = ("1 naive", "2 channels")
BASE = "8 in_place"
TRIALS = {
    "tile of 12 x 32": "NARROW",
    "sums stay in registers": "REGISTERS",
    "tile before requantized meanwhile": "PIPELINED",
    "weights prefetched 4 words ahead": "PREFETCH=1024",
    "non-temporal stores": "STREAM",
}


class Arguments(ctypes.Structure):
    """Conv of conv.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "weight", "scale", "terms", "y")),
        *((name, ctypes.c_int64) for name in ("h", "w")),
        ("zero", ctypes.c_int32),
    )


class Problem:
    """A random convolution, for the operation and for the versions."""

    def __init__(self) -> None:
        codes = torch.randint(0, 256, SHAPE, dtype=torch.uint8)
        self.x = codes.contiguous(memory_format=torch.channels_last)
        levels = torch.randint(-128, 128, (64, 64, 3, 3))
        in_step, step = torch.tensor(6 / 255), torch.rand(64) * 2e-4
        bias, out_step = torch.randn(64) * 0.1, torch.tensor(3 / 255)
        lowest, zero = (torch.tensor(v, dtype=torch.int32) for v in (-128, 0))
        # In the order of `ops.uniform_conv2d` and of its reference.
        self.arguments: list[Any] = [
            [self.x], in_step, lowest, 8, levels.to(torch.int16), step, bias,
            [1, 1], [1, 1], [1, 1], 1, "relu", None, None, None, None, "none", 1,
            torch.uint8, out_step, zero, 8,
        ]  # fmt: skip
        self.weight = levels.to(torch.int8).contiguous()
        self.scale, self.terms = in_step * step / out_step, bias / out_step

    def product(self) -> torch.Tensor:
        return ops.uniform_conv2d(*self.arguments)

    def reference(self) -> torch.Tensor:
        return ops.reference.fused_conv.uniform_conv2d(*self.arguments)

    def version(self, function: Any) -> Callable[[], torch.Tensor]:
        y = torch.empty_like(self.x)
        tensors = [pointer(t) for t in (self.x, self.weight, self.scale, self.terms, y)]
        arguments = Arguments(*tensors, *SHAPE[2:], 128)

        def run() -> torch.Tensor:
            function(ctypes.byref(arguments))
            return y

        return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    require_vnni(native.cpu_isa())
    torch.set_num_threads(1)
    torch.manual_seed(0)
    problem = Problem()
    expected = problem.reference()
    versions: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as name:
        here, folder = Path(__file__).with_suffix(""), Path(name)
        sources: list[tuple[str, Path, tuple[str, ...]]]
        sources = [(s.stem.replace("_", " ", 1), s, ()) for s in sorted(here.glob("[0-9]_*.cpp"))]
        last = sources[-1][1]
        sources += [(f"trial: {trial}", last, (define,)) for trial, define in TRIALS.items()]
        for title, source, defines in sources:
            run = problem.version(compiled(source, folder, defines).conv)
            assert torch.equal(run(), expected), title
            versions[title] = run
        assert torch.equal(problem.product(), expected)
        versions["9 ptqsr.ops.uniform_conv2d"] = problem.product
        fast = {title: run for title, run in versions.items() if title not in SLOW}
        slow = compare({title: versions[title] for title in SLOW}, rounds=3)
        timings = slow + compare({PEAK: peak(folder), **fast}, rounds=arguments.rounds)
    by_name = {timing.name: timing for timing in timings}
    fastest = by_name[PEAK].cpu_ms
    ladder = [t for t in timings if t.name[0].isdigit()]
    show("uniform_conv2d", [*ladder, by_name[PEAK]], fastest, None)
    trials = [t for t in timings if t.name.startswith("trial")]
    show(f"over {BASE}", trials, fastest, by_name[BASE])
    write(arguments.json, {"uniform_conv2d": as_json(timings)})


if __name__ == "__main__":
    main()
