"""What is timed computes the right thing: on small shapes, our operations against the reference."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import torch

from benchmarks.gpu import cases
from ptqsr import native, ops

SHAPE = (2, 64, 21, 13)
# What is not the same bits, since sums have no fixed order.
CLOSE = ("channel_stats", "subset_fake_quant")


def differences(device: str) -> list[str]:
    """Return a line for every operation that gives something else than its reference."""
    found = []
    for dtype in (torch.float32, torch.float16):
        x = cases.activation(SHAPE, dtype)
        there, here = cases.elementwise(x.to(device)), cases.elementwise(x)
        for name, run in there.items():
            if name not in CLOSE:
                found.append(_different(f"{name} {dtype}", run(), _reference(here[name])))
        found.append(_statistics(x, there["channel_stats"]()))
        found.append(_fake_quant(x, there["subset_fake_quant"]()))
    operands = cases.matrices(70, 150, 208)
    here = cases.products(*operands)
    for name, run in cases.products(*(t.to(device) for t in operands)).items():
        found.append(_different(name, run(), _reference(here[name])))
    x = cases.codes(SHAPE)
    for bits in (8, 4):
        for out in (64, 256):
            levels = cases.weights(out, SHAPE[1], bits)
            run = cases.convolution(x.to(device), levels.to(device), bits)
            expected = _reference(cases.convolution(x, levels, bits))
            found.append(_different(f"uniform_conv2d W{bits}A{bits} 64->{out}", run(), expected))
    x = cases.activation(SHAPE, torch.float16)
    levels = cases.weights(64, SHAPE[1], 4)
    expected = _reference(cases.subset_convolution(x, levels))
    for before in (False, True):
        run = cases.subset_convolution(x.to(device), levels.to(device), before)
        found.append(_different(f"subset_conv2d, encoded before: {before}", run(), expected))
    return [line for line in found if line]


def _statistics(x: torch.Tensor, found: tuple[torch.Tensor, ...]) -> str:
    mean, low, high = (t.cpu() for t in found)
    name, numbers = f"channel_stats {x.dtype}", x.float()
    expected = torch.stack([numbers.amin((2, 3)), numbers.amax((2, 3))])
    return _mean(name, x, mean) or _different(name, torch.stack([low, high]), expected)


def _fake_quant(x: torch.Tensor, found: tuple[torch.Tensor, ...]) -> str:
    """Compare the fake-quantized x with what its own statistics make of x."""
    y, mean, scale = (t.cpu() for t in found)
    name, (points, denominator) = f"subset_fake_quant {x.dtype}", cases.points(x)
    expected = ops.quantize_given(x.float(), points, denominator, mean, scale).to(x.dtype)
    return _mean(name, x, mean) or _different(name, y, expected)


def _mean(name: str, x: torch.Tensor, mean: torch.Tensor) -> str:
    """Compare means: they may differ by what the order of a sum does."""
    numbers = x.double()
    bound = 2**-16 * numbers.abs().amax((2, 3))
    close = bool(((mean.double() - numbers.mean((2, 3))).abs() <= bound).all())
    return "" if close else f"{name}: a mean is too far from the exact one"


def _reference(run: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return what an operation on the CPU gives without native code."""
    with mock.patch.object(native, "load", lambda: None):
        return run()


def _different(name: str, found: torch.Tensor, expected: torch.Tensor) -> str:
    """Return what is wrong; nothing where both are the same."""
    found = found.cpu()
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f"{name}: {found.dtype} {tuple(found.shape)}, not {tuple(expected.shape)}"
    wrong = int((found != expected).sum())
    return f"{name}: {wrong} of {found.numel()} results differ" if wrong else ""
