"""Operations on a GPU beside their peers and the ceilings of that GPU.

    python -m benchmarks.gpu --json benchmarks/results/gpu.json

Every candidate is a CUDA graph of many runs, on tensors in turn that a cache cannot hold all,
replayed once a round; rounds are interleaved, with what the GPU reaches at most among them
(`benchmarks/kernels/ceiling.cu`, compiled here by nvcc). Elementwise kernels stand beside a copy of
their input, `gemm_s8` beside `torch._int_mm` and float16, `uniform_conv2d` (codes to codes with
ReLU) beside cuDNN in float16, channels_last, and the fastest of several forms of CUTLASS's int8 and
int4 convolution (`benchmarks/kernels/cutlass_conv.cu`, signed codes, one factor, no bias), EDSR's
body beside PyTorch's in float16, TF32 and float32.

Before anything is timed our operations are compared with their reference, CUTLASS with PyTorch. At
the end comes one table, with a verdict under every row that a goal speaks of (`goals.py`).
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import body, cases, ceiling, checks, cutlass, goals, graphs, table
from benchmarks.gpu.build import BuildError
from benchmarks.gpu.graphs import Candidate
from benchmarks.gpu.table import Measured, Row
from benchmarks.timer import write

SHAPES = [(1, 64, 270, 480), (8, 64, 270, 480)]
BODIES = [(1, 64, 180, 320), *SHAPES]
OUT = (64, 256)
SIZE = 4096


@dataclass(frozen=True)
class Group:
    """What is timed together: what makes the candidates, and the ceilings they are held against."""

    title: str
    make: Callable[[], list[Candidate]]
    limits: tuple[str, ...]


def groups(architecture: int, peers: Sequence[cutlass.Convolution]) -> Iterator[Group]:
    kinds = ceiling.kinds(architecture)
    for shape in SHAPES:
        size = "x".join(map(str, shape))
        for dtype in (torch.float32, torch.float16):
            make = partial(cases.elementwise_candidates, shape, dtype)
            yield Group(f"{size} {str(dtype).removeprefix('torch.')}", make, ("copy",))
        for out in OUT:
            make = partial(convolutions, shape, out, architecture, peers)
            yield Group(f"3x3 64->{out} {size}", make, kinds)
    for shape in BODIES:
        make = partial(body.candidates, shape, architecture)
        yield Group(f"body {'x'.join(map(str, shape))}", make, kinds)
    make = partial(cases.product_candidates, SIZE, architecture)
    yield Group(f"{SIZE} x {SIZE} x {SIZE}", make, kinds)


def convolutions(
    shape: tuple[int, ...], out: int, architecture: int, peers: Sequence[cutlass.Convolution]
) -> list[Candidate]:
    ours = cases.conv_candidates(shape, out, architecture)
    return [*ours, *cutlass.candidates(peers, shape, out)]


def measure(
    architecture: int,
    built: ctypes.CDLL | None,
    peers: Sequence[cutlass.Convolution],
    rounds: int,
) -> dict[str, Any]:
    """Time all groups, print the table; return what goes to the JSON file."""
    measured: dict[str, list[Measured]] = {}
    rows: list[Row] = []
    clocks = {}
    for group in groups(architecture, peers):
        candidates = [*group.make(), *ceilings(built, group.limits)]
        measured[group.title] = graphs.measure(candidates, rounds)
        clocks[group.title] = graphs.clocks_under(graphs.captured(candidates[0].runs, 1))
        for row in table.rows(group.title, measured[group.title]):
            rows.append(row)
            print(table.line(row), file=sys.stderr, flush=True)
    limits = table.ceilings(measured.values())
    verdicts = goals.verdicts(rows, architecture)
    for name, of in limits.items():
        print(f"ceiling {name}: {of['best']:.1f} {of['unit']}, at least {of['lowest']:.1f}")
    print("\n".join(goals.report(rows, verdicts)))
    return {
        "ceilings": limits,
        "rows": [asdict(row) for row in rows],
        "goals": [asdict(verdict) for verdict in verdicts],
        "clocks": clocks,
        "seconds": {title: {m.name: m.seconds for m in group} for title, group in measured.items()},
    }


def ceilings(built: ctypes.CDLL | None, limits: tuple[str, ...]) -> list[Candidate]:
    """Return the ceilings that can be measured: of products only what was compiled."""
    if limits == ("copy",):
        return [ceiling.copy(built)]
    return [] if built is None else [ceiling.products(built, kind) for kind in limits]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json")
    parser.add_argument(
        "--cutlass", type=Path, help="CUTLASS's include folder; default: that of nvidia-cutlass"
    )
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: no GPU here")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    major, minor = torch.cuda.get_device_capability()
    architecture, gpu = 10 * major + minor, graphs.gpu()
    print(", ".join(f"{name} {value}" for name, value in gpu.items()))
    if wrong := checks.differences("cuda"):
        sys.exit("benchmarks.gpu: times of wrong results are worth nothing\n" + "\n".join(wrong))
    with tempfile.TemporaryDirectory() as folder:
        try:
            built = ceiling.library(Path(folder), architecture)
        except BuildError as error:
            print(f"no ceilings of products: {error}")
            built = None
        include = cutlass.headers() if arguments.cutlass is None else arguments.cutlass
        peers = cutlass.build(Path(folder), include, architecture)
        figures = measure(architecture, built, peers, arguments.rounds)
    versions = {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cutlass": str(arguments.cutlass or cutlass.installed()),
    }
    write(arguments.json, {"gpu": gpu, "versions": versions, **figures})


if __name__ == "__main__":
    main()
