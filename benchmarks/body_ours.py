"""Our convolutions of EDSR's body, as benchmarks/body.py times them beside other runtimes.

Random weights and inputs: latency does not depend on the values.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ptqsr import ops
from ptqsr.points import UniversalSet

SHAPE, BLOCKS = (1, 64, 180, 320), 16


def candidates(threads: int) -> dict[str, Callable[[], object]]:
    """Return what to time; PyTorch's number of threads, which the caller sets, is ours too."""
    del threads
    torch.manual_seed(0)
    x = torch.randn(SHAPE).contiguous(memory_format=torch.channels_last)
    return {
        "conv: ptqsr uniform W8A8": _uniform_conv(8),
        "conv: ptqsr uniform W4A4": _uniform_conv(4),
        "conv: ptqsr DFSQ W4A4, with encoding and statistics": _subset_conv(x.half()),
        "conv: ptqsr DFSQ W4A4, float32": _subset_conv(x),
        "body: ptqsr uniform W8A8": _uniform_body(8),
        "body: ptqsr uniform W4A4": _uniform_body(4),
        "body: ptqsr uniform W8A8, as deployed": _uniform_body_float(x),
        "body: ptqsr uniform W8A8, float16 shortcut": _uniform_body_float(x.half()),
        "body: ptqsr DFSQ W4A4": _subset_body(x.half()),
        "body: ptqsr DFSQ W4A4, float32": _subset_body(x),
    }


def _weights(bits: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Levels, steps and biases of a convolution."""
    half = 1 << (bits - 1)
    levels = torch.randint(-half, half, (64, 64, 3, 3)).to(torch.int16)
    return levels, torch.full((64,), 0.02 / half), torch.randn(64) * 0.1


class _Uniform:
    """A quantizer of activations: step, lowest level, bits."""

    def __init__(self, low: float, high: float, bits: int) -> None:
        step = (high - low) / ((1 << bits) - 1)
        self.step = torch.tensor(step)
        self.lowest = torch.tensor(round(low / step), dtype=torch.int32)
        self.bits = bits


def _codes(bits: int) -> torch.Tensor:
    codes = torch.randint(0, 1 << bits, SHAPE, dtype=torch.uint8)
    return codes.contiguous(memory_format=torch.channels_last)


def _call(
    x: torch.Tensor,
    quantizer: _Uniform,
    weights: tuple[torch.Tensor, ...],
    out: _Uniform | None,
    residual: tuple[torch.Tensor, _Uniform | None] | None = None,
) -> torch.Tensor:
    """A uniform convolution, to codes where `out` is given; with ReLU where nothing is added."""
    added, scale = residual or (None, None)
    return ops.uniform_conv2d(
        [x], quantizer.step, quantizer.lowest, quantizer.bits, *weights, padding=1,
        activation="relu" if residual is None else "none", residual=added,
        residual_step=None if scale is None else scale.step,
        residual_lowest=None if scale is None else scale.lowest,
        out_dtype=added.dtype if out is None and added is not None else None,
        out_step=None if out is None else out.step,
        out_lowest=None if out is None else out.lowest,
        out_bits=quantizer.bits,
    )  # fmt: skip


def _uniform_conv(bits: int) -> Callable[[], object]:
    signed, positive = _Uniform(-3, 3, bits), _Uniform(0, 3, bits)
    codes, weights = _codes(bits), _weights(bits)
    return lambda: _call(codes, signed, weights, positive)


def _uniform_body(bits: int) -> Callable[[], object]:
    """Codes from end to end, the shortcut too: what the static int8 peers do."""
    signed, positive = _Uniform(-3, 3, bits), _Uniform(0, 3, bits)
    codes, layers = _codes(bits), [(_weights(bits), _weights(bits)) for _ in range(BLOCKS)]

    def run() -> torch.Tensor:
        x = codes
        for first, second in layers:
            y = _call(x, signed, first, positive)
            x = _call(y, positive, second, signed, residual=(x, signed))
        return x

    return run


def _uniform_body_float(x: torch.Tensor) -> Callable[[], object]:
    """Codes within a block, numbers between blocks: as `ptqsr.deploy` runs MinMax, in float32."""
    signed, positive = _Uniform(-3, 3, 8), _Uniform(0, 3, 8)
    layers = [(_weights(8), _weights(8)) for _ in range(BLOCKS)]

    def run() -> torch.Tensor:
        y = x
        for first, second in layers:
            z = _call(y, signed, first, positive)
            y = _call(z, positive, second, None, residual=(y, None))
        return y

    return run


def _subset_points() -> tuple[torch.Tensor, int]:
    universal_set = UniversalSet.preset("dfsq-107")
    integers = torch.from_numpy(universal_set.integers).int()
    row = integers[torch.linspace(0, len(integers) - 1, 16).long()]
    return row.repeat(64, 1), universal_set.denominator


def _subset_conv(x: torch.Tensor) -> Callable[[], object]:
    points, d = _subset_points()
    weights, signed = _weights(4), torch.zeros(64, dtype=torch.bool)
    mean, scale = ops.normalisation(*ops.channel_stats(x.float()), signed)
    return lambda: ops.subset_conv2d(
        [x], points, mean, scale, d, *weights, padding=1, activation="relu", out_dtype=x.dtype,
        statistics=True,
    )  # fmt: skip


def _subset_body(x: torch.Tensor) -> Callable[[], object]:
    """As `ptqsr.deploy` runs DFSQ: every convolution gives the statistics of its result."""
    points, d = _subset_points()
    layers = [(_weights(4), _weights(4)) for _ in range(BLOCKS)]
    signed, positive = torch.zeros(64, dtype=torch.bool), torch.ones(64, dtype=torch.bool)
    of_input = ops.channel_stats(x.float())

    def run() -> torch.Tensor:
        y, statistics = x, of_input
        for first, second in layers:
            z, *found = ops.subset_conv2d(
                [y], points, *ops.normalisation(*statistics, signed), d, *first, padding=1,
                activation="relu", out_dtype=x.dtype, statistics=True,
            )  # fmt: skip
            y, *statistics = ops.subset_conv2d(
                [z], points, *ops.normalisation(*found, positive), d, *second, padding=1,
                residual=y, out_dtype=x.dtype, statistics=True,
            )  # fmt: skip
        return y

    return run
