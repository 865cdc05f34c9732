"""uniform_fake_quant and uniform_encode, on every instruction set of this machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops_helpers import LAYOUTS

from ptqsr import native, ops
from ptqsr.ops.reference import uniform as reference
from ptqsr.quantizers.uniform import UniformQuantizer

NAMES = ("uniform_encode", "uniform_fake_quant")
SMALLER = [torch.float16, torch.bfloat16]


def grid(step: float, lowest: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(step), torch.tensor(lowest, dtype=torch.int32)


def check(x: torch.Tensor, step: float, lowest: int, bits: int) -> None:
    s, low = grid(step, lowest)
    y = ops.uniform_fake_quant(x, s, low, bits)
    expected = reference.uniform_fake_quant(x, s, low, bits)
    wrong = (y.view(torch.int32) != expected.view(torch.int32)) & ~(y.isnan() & expected.isnan())
    assert not wrong.any(), f"first difference at {wrong.nonzero()[0].tolist()}"
    codes = ops.uniform_encode(x, s, low, bits)
    assert codes.dtype == torch.uint8
    assert torch.equal(codes, reference.uniform_encode(x, s, low, bits))
    assert y.stride() == codes.stride() == torch.empty_like(expected).stride()
    sound = ~x.isnan()
    decoded = (codes.to(torch.int32) + low) * s
    assert torch.equal(decoded[sound], y[sound])
    assert y[~sound].isnan().all() and (codes[~sound] == 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 7, 9), (1, 64, 9, 7), (1, 3, 150, 151)])
@pytest.mark.parametrize(
    "step, lowest, bits",
    [(0.1, -7, 4), (0.037, 0, 8), (0.01, -255, 8), (1.0, -2, 2), (1e-30, -3, 3), (1e30, -1, 5)],
)
def test_equals_reference(
    isa: str, layout: str, shape: tuple[int, ...], step: float, lowest: int, bits: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape).contiguous(memory_format=LAYOUTS[layout]) * (step * (1 << bits) / 2)
    check(x, step, lowest, bits)


def test_ties_and_extremes(isa: str) -> None:
    half = torch.arange(-600, 601) / 2
    edges = torch.cat((half, half.nextafter(half + 1), half.nextafter(half - 1)))
    nan, inf = torch.nan, torch.inf
    others = torch.tensor([0, -0.0, 1e-45, -1e-45, 3e38, -3e38, inf, -inf, nan, -nan])
    x = torch.cat((edges, others))
    for step in (1.0, 0.5, 2.0**-120, 2.0**100, 1e-45, 0.3):
        for lowest, bits in ((-128, 8), (0, 8), (-3, 3), (5, 2), (-(1 << 20), 8), (1 << 20, 8)):
            check(x * step, step, lowest, bits)
            check(x, step, lowest, bits)
    codes = ops.uniform_encode(torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5]), *grid(1.0, -2), 4)
    assert codes.tolist() == [2, 4, 4, 2, 0]  # half to even


@pytest.mark.parametrize("dtype", SMALLER, ids=str)
def test_other_numbers_are_computed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 5, 7, 9) * 3).to(dtype)
    x[0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, -0.0])
    for layout in LAYOUTS.values():
        x = x.contiguous(memory_format=layout)
        for step, lowest, bits in ((0.1, -7, 4), (0.037, 0, 8), (1e4, -2, 2)):
            given = (*grid(step, lowest), bits)
            y, codes = ops.uniform_fake_quant(x, *given), ops.uniform_encode(x, *given)
            expected = ops.uniform_fake_quant(x.float(), *given).to(dtype)
            assert y.dtype == dtype and torch.equal(y.nan_to_num(7), expected.nan_to_num(7))
            assert torch.equal(codes, ops.uniform_encode(x.float(), *given))
            assert torch.equal(y.isnan(), reference.uniform_fake_quant(x, *given).isnan())
            assert torch.equal(codes, reference.uniform_encode(x, *given))
            assert y.stride() == codes.stride() == x.stride()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.floats(width=32), min_size=1, max_size=80),
    st.floats(2.0**-100, 2.0**100, width=32),
    st.integers(-300, 300),
    st.integers(2, 8),
)
def test_any_values(isa: str, values: list[float], step: float, lowest: int, bits: int) -> None:
    check(torch.tensor(values), step, lowest, bits)


def test_shapes_strides_and_threads(isa: str) -> None:
    torch.manual_seed(0)
    for shape in ((), (0,), (7,), (2, 0, 3), (3, 5, 2), (2, 3, 2, 2, 2), (300_001,)):
        check(torch.randn(shape), 0.3, -4, 3)
    x = torch.randn(4, 6, 20, 10)
    for strided in (x[:, ::2, 1:], x.transpose(1, 3), x[:1, :, :1].expand(3, 6, 4, 10)):
        check(strided, 0.3, -4, 3)
    inputs = [torch.randn(70_000) for _ in range(8)]
    expected = [ops.uniform_encode(x, *grid(0.1, -8), 4) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda x: ops.uniform_encode(x, *grid(0.1, -8), 4), inputs)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_gradient_goes_straight_through_inside_the_range() -> None:
    x = torch.tensor([-0.26, -0.24, -0.1, 0.0, 0.14, 0.16, 3.0, torch.nan], requires_grad=True)
    y = ops.uniform_fake_quant(x, *grid(0.1, -2), 2)  # -0.2 .. 0.1
    (gradient,) = torch.autograd.grad(y, x, torch.arange(1.0, 9.0))
    assert gradient.tolist() == [0, 2, 3, 4, 5, 0, 0, 0]
    assert not ops.uniform_encode(x, *grid(0.1, -2), 2).requires_grad
    for dtype in SMALLER:
        x = x.detach().to(dtype).requires_grad_()
        y = ops.uniform_fake_quant(x, *grid(0.1, -2), 2)
        (gradient,) = torch.autograd.grad(y, x, torch.arange(1.0, 9.0).to(dtype))
        assert gradient.dtype == dtype and gradient.tolist() == [0, 2, 3, 4, 5, 0, 0, 0]


def test_the_quantizer_uses_it() -> None:
    x = torch.randn(1, 3, 20, 20) * 2
    quantizer = UniformQuantizer.from_range(-1.0, 1.5, 4)
    level = torch.round(x / quantizer.step)
    level = level.clamp(quantizer.lowest, quantizer.lowest + 15)
    assert torch.equal(quantizer(x), level * quantizer.step)


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str) -> None:
    for layout in LAYOUTS.values():
        for gradient in (False, True):
            for dtype in (torch.float32, *SMALLER):
                x = torch.randn(2, 3, 4, 5).to(dtype).contiguous(memory_format=layout)
                x.requires_grad_(gradient)
                given_ = (x, *grid(0.1, -8), 4)
                torch.library.opcheck(getattr(torch.ops.ptqsr, name).default, given_)


@pytest.mark.parametrize("name", NAMES)
def test_native_kernels_are_registered(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"ptqsr::{name}", "CPU")


@pytest.mark.parametrize("use_reference", [False, True], ids=["native", "reference"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(x=torch.zeros(3).double()), TypeError, "x is"),
        (dict(step=torch.tensor(1)), TypeError, "step is"),
        (dict(lowest=torch.tensor(1)), TypeError, "lowest is"),
        (dict(step=torch.ones(1)), ValueError, r"must have \(\)"),
        (dict(x=torch.zeros(3, device="meta")), ValueError, "one device"),
        (dict(bits=1), ValueError, "2 to 8"),
        (dict(bits=9), ValueError, "2 to 8"),
        (dict(step=torch.tensor(0.0)), ValueError, "positive"),
        (dict(step=torch.tensor(-1.0)), ValueError, "positive"),
        (dict(step=torch.tensor(torch.nan)), ValueError, "positive"),
        (dict(step=torch.tensor(torch.inf)), ValueError, "finite"),
        (dict(lowest=torch.tensor((1 << 20) + 1, dtype=torch.int32)), ValueError, "lowest"),
    ],
    ids=lambda v: str(list(v)[0]) if isinstance(v, dict) else "",
)
def test_bad_input(
    name: str,
    change: dict[str, Any],
    error: type[Exception],
    words: str,
    use_reference: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if use_reference:
        monkeypatch.setattr(native, "load", lambda: None)
    step, lowest = grid(0.1, -8)
    good = dict(x=torch.zeros(3), step=step, lowest=lowest, bits=4)
    with pytest.raises(error, match=words):
        getattr(ops, name)(**{**good, **change})
