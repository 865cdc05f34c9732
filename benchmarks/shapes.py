"""Odd convolutions of the zoo, ours beside oneDNN's int8 through PyTorch: who runs them faster?

    python -m benchmarks.shapes --json benchmarks/results/shapes.json

Every layer goes from codes to codes with ReLU, uint8 activations and int8 weights. One thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from benchmarks.timer import as_json, compare, write
from ptqsr import ops

# name: (input channels, output channels, kernel, stride, groups, height, width)
LAYERS = {
    "3x3 64->64": (64, 64, 3, 1, 1, 90, 160),
    "RDN fusion 1x1 576->64": (576, 64, 1, 1, 1, 90, 160),
    "RDN dense 3x3 320->64": (320, 64, 3, 1, 1, 90, 160),
    "CARN-M 3x3 64->64, 4 groups": (64, 64, 3, 1, 4, 90, 160),
    "IDN 3x3 48->32, 4 groups": (48, 32, 3, 1, 4, 90, 160),
    "IDN 3x3 64->48, 4 groups": (64, 48, 3, 1, 4, 90, 160),
    "IMDN 3x3 48->64": (48, 64, 3, 1, 1, 90, 160),
    "IMDN 3x3 48->16": (48, 16, 3, 1, 1, 90, 160),
    "IMDN 1x1 64->64": (64, 64, 1, 1, 1, 90, 160),
    "head 3x3 3->64": (3, 64, 3, 1, 1, 90, 160),
    "head 9x9 3->64": (3, 64, 9, 1, 1, 90, 160),
    "tail 3x3 64->3": (64, 3, 3, 1, 1, 360, 640),
    "tail 9x9 64->3": (64, 3, 9, 1, 1, 90, 160),
    "upsampler 3x3 64->256": (64, 256, 3, 1, 1, 90, 160),
    "5x5 64->64, stride 2": (64, 64, 5, 2, 1, 90, 160),
}


def candidates(
    channels: int, out: int, kernel: int, stride: int, groups: int, height: int, width: int
) -> dict[str, Callable[[], object]]:
    """Return both forms of one layer."""
    codes = torch.randint(0, 256, (1, channels, height, width), dtype=torch.uint8)
    codes = codes.contiguous(memory_format=torch.channels_last)
    weight = torch.randint(-127, 128, (out, channels // groups, kernel, kernel))
    steps, bias = torch.full((out,), 1e-4), torch.randn(out)
    geometry = ([stride] * 2, [kernel // 2] * 2, [1, 1], groups)
    levels, one, zero = weight.to(torch.int16), torch.tensor(1.0), torch.tensor(0).int()
    packed = torch.ops.onednn.qconv_prepack(
        weight.to(torch.int8), steps, 1.0, 0, *geometry, list(codes.shape)
    )
    zeros = torch.zeros(out, dtype=torch.int64)

    def theirs() -> torch.Tensor:
        y: torch.Tensor = torch.ops.onednn.qconv2d_pointwise(
            *(codes, 1.0, 0, packed, steps, zeros, bias, *geometry, 1.0, 0),
            *(torch.uint8, "relu", [], ""),
        )
        return y

    def ours() -> torch.Tensor:
        return ops.uniform_conv2d(
            [codes], one, zero, 8, levels, steps, bias, *geometry,
            activation="relu", out_step=one, out_lowest=zero,
        )  # fmt: skip

    assert (theirs().int() - ours().int()).abs().max() <= 1
    return {"oneDNN": theirs, "ptqsr": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    figures = {}
    for name, shape in LAYERS.items():
        timings = compare(candidates(*shape), rounds=arguments.rounds)
        figures[name] = as_json(timings)
        theirs, ours = timings
        print(
            f"{name:<30} oneDNN {theirs.cpu_ms:8.3f} ms  ptqsr {ours.cpu_ms:8.3f} ms  "
            f"{1 / ours.ratio:5.2f} times as fast [{1 / ours.ratio_high:.2f}, "
            f"{1 / ours.ratio_low:.2f}]"
        )
    write(arguments.json, figures)


if __name__ == "__main__":
    main()
