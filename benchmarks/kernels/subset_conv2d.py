"""The ladder of `subset_conv2d`, DFSQ W4A4 with ReLU and statistics, 1x64x180x320, 64 to 64.

    python -m benchmarks.kernels.subset_conv2d --json benchmarks/results/subset_conv2d.json

One thread. Older forms lie in `subset_conv2d/`, around the tile of `uniform_conv2d/`; the last one
is in `csrc/cpu/`. All give the floats of the PyTorch reference and the same extremes, and means
within 2^-16 of the largest value, which is checked before they are timed.
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
from ptqsr.points import UniversalSet

SHAPE = (1, 64, 180, 320)
Result = tuple[torch.Tensor, ...]  # y, mean, low, high


class Arguments(ctypes.Structure):
    """Subset of subset.h."""

    _fields_ = (
        *((f"pointer_{i}", ctypes.c_void_p) for i in range(12)),
        *((name, ctypes.c_int64) for name in ("h", "w")),
        ("denominator", ctypes.c_int32),
    )


class Problem:
    """A random convolution of an input whose channels keep mean 0."""

    def __init__(self) -> None:
        universal_set = UniversalSet.preset("dfsq-107")
        integers = torch.from_numpy(universal_set.integers).int()
        self.denominator = universal_set.denominator
        self.points = integers[torch.linspace(0, len(integers) - 1, 16).long()].repeat(64, 1)
        self.x = torch.randn(SHAPE).contiguous(memory_format=torch.channels_last)
        keeps_zero = torch.ones(64, dtype=torch.bool)
        self.mean, self.scale = ops.normalisation(*ops.channel_stats(self.x), keeps_zero)
        self.levels = torch.randint(-8, 8, (64, 64, 3, 3)).to(torch.int16)
        self.step, self.bias = torch.rand(64) * 0.01, torch.randn(64) * 0.1

        # In the order of `ops.subset_conv2d` and of its reference.
        self.arguments: list[Any] = [
            [self.x], self.points, self.mean, self.scale, self.denominator,
            self.levels, self.step, self.bias, [1, 1], [1, 1], [1, 1], 1,
            "relu", None, None, "none", 1, torch.float32, True,
        ]  # fmt: skip

    def product(self) -> Result:
        return ops.subset_conv2d(*self.arguments)

    def reference(self) -> Result:
        return ops.reference.fused_conv.subset_conv2d(*self.arguments)

    def version(self, function: Any) -> Callable[[], Result]:
        thresholds = ops.thresholds(self.points).t().contiguous()
        table = self.points.t().to(torch.int8).contiguous()
        # A number divided by a tensor would be a product with the reciprocal, rounded twice.
        ratio = torch.full_like(self.scale, self.denominator) / self.scale
        out = torch.empty_like(self.x), *(torch.empty(1, 64) for _ in range(3))
        inputs = (self.x, thresholds, ratio, table, self.levels, self.step, self.scale, self.bias)
        pointers = [pointer(tensor) for tensor in (*inputs, *out)]
        arguments = Arguments(*pointers, *SHAPE[2:], self.denominator)

        def run() -> Result:
            function(ctypes.byref(arguments))
            return out

        # What the structure points at lives as long as the function.
        run.inputs = inputs  # type: ignore[attr-defined]
        return run


def check(title: str, got: Result, expected: Result) -> None:
    for i, name in ((0, "y"), (2, "low"), (3, "high")):
        assert torch.equal(got[i], expected[i]), f"{title}: {name}"
    limit = 2**-16 * expected[0].abs().max()
    assert ((got[1] - expected[1]).abs() <= limit).all(), f"{title}: mean"


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
    with tempfile.TemporaryDirectory() as name:
        here, folder = Path(__file__).with_suffix(""), Path(name)
        versions: dict[str, Callable[[], Any]] = {}
        for source in sorted(here.glob("[0-9]_*.cpp")):
            run = problem.version(compiled(source, folder).conv)
            versions[source.stem.replace("_", " ", 1)] = run
        versions["5 ptqsr.ops.subset_conv2d"] = problem.product
        for title, run in versions.items():
            check(title, run(), expected)
        candidates = {PEAK: peak(folder), **versions}
        fastest, *timings = compare(candidates, rounds=arguments.rounds)
    show("subset_conv2d", [*timings, fastest], fastest.cpu_ms, None)
    write(arguments.json, {"subset_conv2d": as_json([fastest, *timings])})


if __name__ == "__main__":
    main()
