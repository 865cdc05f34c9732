"""subset_fake_quant against a copy of the same tensor and against its forms in plain PyTorch.

    python -m benchmarks.fake_quant --threads 1 --json benchmarks/results/fake_quant.json

The claim: at most 1.6 times the time of a copy (1x64x180x320, 4 bits, one thread).
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.timer import as_json, compare, write
from ptqsr import ops
from ptqsr.points import UniversalSet

SHAPE = (1, 64, 180, 320)


def bucketize(x: torch.Tensor, points: torch.Tensor, denominator: int) -> torch.Tensor:
    """The usual PyTorch form, with one set of points for all channels."""
    mean = x.mean((2, 3), keepdim=True)
    scale = (x - mean).abs().amax((2, 3), keepdim=True)
    levels = points[0] / denominator
    code = torch.bucketize((x - mean) / scale, (levels[1:] + levels[:-1]) / 2)
    return levels[code] * scale + mean


def argmin(x: torch.Tensor, points: torch.Tensor, denominator: int) -> torch.Tensor:
    """The form of research code: the distance to every point, channel by channel."""
    mean = x.mean((2, 3), keepdim=True)
    scale = (x - mean).abs().amax((2, 3), keepdim=True)
    levels = points[0] / denominator
    z = (x - mean) / scale
    code = torch.cat([(c.unsqueeze(-1) - levels).abs().argmin(-1) for c in z.split(1, 1)], 1)
    return levels[code] * scale + mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    universal_set = UniversalSet.preset("dfsq-107")
    d = universal_set.denominator
    integers = torch.from_numpy(universal_set.integers).int()
    torch.manual_seed(0)
    nonnegative = torch.zeros(SHAPE[1], dtype=torch.bool)
    figures = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(SHAPE).contiguous(memory_format=layout)
        out = torch.empty_like(x)
        for levels in (8, 16, 107):
            row = integers[torch.linspace(0, len(integers) - 1, levels).long()]
            points = row.repeat(SHAPE[1], 1)
            candidates = {
                "copy": lambda x=x, out=out: out.copy_(x),
                "ptqsr": lambda x=x, p=points: ops.subset_fake_quant(x, p, nonnegative, d),
            }
            timings = compare(
                candidates, rounds=arguments.rounds, bytes_moved=2 * x.numel() * x.element_size()
            )
            if levels == 16 and layout is torch.contiguous_format:
                slow = {
                    "copy": candidates["copy"],
                    "torch.bucketize": lambda x=x, p=points: bucketize(x, p, d),
                    "arg-min": lambda x=x, p=points: argmin(x, p, d),
                }
                timings += compare(slow, rounds=5)[1:]
            title = f"{str(layout).removeprefix('torch.')}, {levels} levels"
            figures[title] = as_json(timings)
            print(title)
            for timing in timings:
                print(timing.line("subset_fake_quant", "x".join(map(str, SHAPE))))
    write(arguments.json, figures)


if __name__ == "__main__":
    main()
