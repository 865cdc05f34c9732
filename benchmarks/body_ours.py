"""Our convolutions of EDSR's body, as benchmarks/body.py times them beside other runtimes, and
benchmarks/gpu on a GPU.

Random weights and inputs: latency does not depend on the values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ptqsr import ops
from ptqsr.points import UniversalSet

SHAPE, BLOCKS = (1, 64, 180, 320), 16
Shape = tuple[int, int, int, int]


def candidates(threads: int) -> dict[str, Callable[[], object]]:
    """Return what to time; PyTorch's number of threads, which the caller sets, is ours too."""
    del threads
    torch.manual_seed(0)
    ours = Ours()
    x = ours.numbers()
    return {
        "conv: ptqsr uniform W8A8": ours.uniform_conv(8),
        "conv: ptqsr uniform W4A4": ours.uniform_conv(4),
        "conv: ptqsr DFSQ W4A4, with encoding and statistics": ours.subset_conv(x.half()),
        "conv: ptqsr DFSQ W4A4, float32": ours.subset_conv(x),
        "body: ptqsr uniform W8A8": ours.uniform_body(8),
        "body: ptqsr uniform W4A4": ours.uniform_body(4),
        "body: ptqsr uniform W8A8, as deployed": ours.uniform_body_float(x),
        "body: ptqsr uniform W8A8, float16 shortcut": ours.uniform_body_float(x.half()),
        "body: ptqsr DFSQ W4A4": ours.subset_body(x.half()),
        "body: ptqsr DFSQ W4A4, float32": ours.subset_body(x),
    }


class _Uniform:
    """A quantizer of activations: step, lowest level, bits."""

    def __init__(self, low: float, high: float, bits: int, device: str) -> None:
        step = (high - low) / ((1 << bits) - 1)
        self.step = torch.tensor(step, device=device)
        self.lowest = torch.tensor(round(low / step), dtype=torch.int32, device=device)
        self.bits = bits


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


@dataclass(frozen=True)
class Ours:
    """Makes what is timed, for inputs of a shape on a device."""

    shape: Shape = SHAPE
    device: str = "cpu"

    def numbers(self) -> torch.Tensor:
        x = torch.randn(self.shape).contiguous(memory_format=torch.channels_last)
        return x.to(self.device)

    def uniform_conv(self, bits: int) -> Callable[[], object]:
        signed, positive = self._quantizers(bits)
        codes, weights = self._codes(bits), self._weights(bits)
        return lambda: _call(codes, signed, weights, positive)

    def uniform_body(self, bits: int) -> Callable[[], object]:
        """Codes from end to end, the shortcut too: what the static int8 peers do."""
        signed, positive = self._quantizers(bits)
        codes, layers = self._codes(bits), self._layers(bits)

        def run() -> torch.Tensor:
            x = codes
            for first, second in layers:
                y = _call(x, signed, first, positive)
                x = _call(y, positive, second, signed, residual=(x, signed))
            return x

        return run

    def uniform_body_float(self, x: torch.Tensor) -> Callable[[], object]:
        """Codes within a block, numbers between blocks: as `ptqsr.deploy` runs MinMax."""
        signed, positive = self._quantizers(8)
        layers = self._layers(8)

        def run() -> torch.Tensor:
            y = x
            for first, second in layers:
                z = _call(y, signed, first, positive)
                y = _call(z, positive, second, None, residual=(y, None))
            return y

        return run

    def subset_conv(self, x: torch.Tensor) -> Callable[[], object]:
        points, d = self._points()
        weights, signed = self._weights(4), torch.zeros(64, dtype=torch.bool, device=self.device)
        mean, scale = ops.normalisation(*ops.channel_stats(x.float()), signed)
        return lambda: ops.subset_conv2d(
            [x], points, mean, scale, d, *weights, padding=1, activation="relu",
            out_dtype=x.dtype, statistics=True,
        )  # fmt: skip

    def subset_body(self, x: torch.Tensor) -> Callable[[], object]:
        """As `ptqsr.deploy` runs DFSQ: every convolution gives the statistics of its result."""
        points, d = self._points()
        layers = self._layers(4)
        signed = torch.zeros(64, dtype=torch.bool, device=self.device)
        positive = ~signed
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

    def _weights(self, bits: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Levels, steps and biases of a convolution."""
        half = 1 << (bits - 1)
        levels = torch.randint(-half, half, (64, 64, 3, 3)).to(torch.int16)
        made = levels, torch.full((64,), 0.02 / half), torch.randn(64) * 0.1
        return made[0].to(self.device), made[1].to(self.device), made[2].to(self.device)

    def _layers(self, bits: int) -> list[tuple[tuple[torch.Tensor, ...], ...]]:
        return [(self._weights(bits), self._weights(bits)) for _ in range(BLOCKS)]

    def _quantizers(self, bits: int) -> tuple[_Uniform, _Uniform]:
        return _Uniform(-3, 3, bits, self.device), _Uniform(0, 3, bits, self.device)

    def _codes(self, bits: int) -> torch.Tensor:
        codes = torch.randint(0, 1 << bits, self.shape, dtype=torch.uint8)
        return codes.contiguous(memory_format=torch.channels_last).to(self.device)

    def _points(self) -> tuple[torch.Tensor, int]:
        universal_set = UniversalSet.preset("dfsq-107")
        integers = torch.from_numpy(universal_set.integers).int()
        row = integers[torch.linspace(0, len(integers) - 1, 16).long()]
        return row.repeat(64, 1).to(self.device), universal_set.denominator
