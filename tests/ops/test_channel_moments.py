"""channel_moments: close to float64, and the same whoever computes it."""

from __future__ import annotations

import pytest
import torch
from ops_helpers import LAYOUTS, SHAPES, activation

from ptqsr import ops
from ptqsr.ops.reference.moments import channel_moments as reference

LAYOUT = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def check(found: tuple[torch.Tensor, ...], x: torch.Tensor) -> None:
    """The contract, of finite values."""
    x = x.double()
    exact = x.mean((2, 3)), x.var((2, 3), correction=0).sqrt()
    rounding = 2**-18 * x.abs().amax((2, 3))
    assert all(t.shape == x.shape[:2] and t.dtype == torch.float32 for t in found)
    assert ((found[0] - exact[0]).abs() <= rounding).all()
    assert ((found[1] - exact[1]).abs() <= 2**-10 * exact[1] + rounding).all()


@LAYOUT
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_contract(isa: str, shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x = activation(shape)[0].contiguous(memory_format=layout)
    found = ops.channel_moments(x)
    check(found, x)
    check(reference(x), x)
    assert (found[1][:, 0] == 0).all()  # a constant
    # In places where the first value of a row lies far from all others.
    x[..., 0] = 1e4
    check(ops.channel_moments(x), x)
    half = x.half()
    check(ops.channel_moments(half), half)


@LAYOUT
def test_far_from_zero(isa: str, layout: torch.memory_format) -> None:
    """Nothing is lost where deviations are much smaller than means."""
    x = (1000 + torch.randn(2, 5, 40, 41) * 0.01).contiguous(memory_format=layout)
    _, found = ops.channel_moments(x)
    exact = x.double().var((2, 3), correction=0).sqrt()
    torch.testing.assert_close(found.double(), exact, rtol=2**-10, atol=0)


@LAYOUT
def test_same_for_threads_and_instructions(
    isa: str, monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format
) -> None:
    x = activation((3, 21, 57, 61))[0].contiguous(memory_format=layout)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(ops.channel_moments(x))
    finally:
        torch.set_num_threads(before)
    alone = ops.channel_moments(x[1:2])
    monkeypatch.setattr("ptqsr.native.cpu_isa", lambda: "portable")
    results.append(ops.channel_moments(x))
    for found in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found, results[0], strict=True))
    assert all(torch.equal(a, b[1:2]) for a, b in zip(alone, results[0], strict=True))


def test_what_is_no_number() -> None:
    x = torch.randn(1, 4, 5, 7)
    x[0, 1, 2, 3], x[0, 2, 0, 0], x[0, 3, 4, 6] = torch.nan, torch.inf, -torch.inf
    for layout in LAYOUTS.values():
        mean, deviation = ops.channel_moments(x.contiguous(memory_format=layout))
        assert deviation.isnan().tolist() == [[False, True, True, True]]
        assert mean.isfinite().tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)], ids=str)
def test_nothing(shape: tuple[int, ...]) -> None:
    for found in (*ops.channel_moments(torch.empty(shape)), *reference(torch.empty(shape))):
        assert found.shape == shape[:2] and (found == 0).all()


def test_opcheck_and_kernel() -> None:
    torch.library.opcheck(torch.ops.ptqsr.channel_moments.default, (torch.randn(2, 3, 5, 4),))
    for name in ("channel_moments", "uniform_conv2d_moments"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"ptqsr::{name}", "CPU")
    with pytest.raises(ValueError, match="channel_moments: x has shape"):
        ops.channel_moments(torch.randn(3, 4))
