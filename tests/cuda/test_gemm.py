"""Products of integer matrices by GPU kernels, against the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptqsr import ops
from ptqsr.ops.reference.gemm import gemm as reference

from .conftest import Emulated, OnGpu

Kernels = Emulated | OnGpu

ARCHITECTURES = [75, 80, 90]
KINDS = [(8, True), (8, False), (4, True), (4, False)]

on_every_processor = pytest.mark.parametrize("architecture", ARCHITECTURES)
of_every_kind = pytest.mark.parametrize("bits, signed_a", KINDS, ids=["s8", "u8", "s4", "u4"])


def matrices(m: int, n: int, k: int, bits: int, signed_a: bool, extreme: bool = False) -> Any:
    g = torch.Generator().manual_seed(m * 1000 + n * 10 + k)
    low, high = (-128, 128) if bits == 8 and signed_a else (0, 256)
    a = torch.randint(low, high, (m, k * bits // 8), generator=g)
    b = torch.randint(*((-128, 128) if bits == 8 else (0, 256)), (n, k * bits // 8), generator=g)
    if extreme:
        a = torch.full_like(a, low if signed_a and bits == 8 else 0x88 if signed_a else 255)
        b = torch.full_like(b, -128 if bits == 8 else 0x88)
    dtype = torch.int8 if bits == 8 else torch.uint8
    return a.to(torch.int8 if bits == 8 and signed_a else torch.uint8), b.to(dtype)


@on_every_processor
@of_every_kind
@pytest.mark.parametrize(
    "m, n, k", [(1, 1, 2), (16, 8, 64), (33, 70, 66), (129, 3, 130), (5, 131, 300)]
)
def test_sums(
    kernels: Kernels, m: int, n: int, k: int, bits: int, signed_a: bool, architecture: int
) -> None:
    kernels.emulate(m + n, architecture)
    a, b = matrices(m, n, k, bits, signed_a)
    rest = (bits, signed_a, None, None, False, torch.int32)
    assert torch.equal(kernels.gemm(a, b, *rest), reference(a, b, *rest))


@on_every_processor
@of_every_kind
def test_extremes(kernels: Kernels, bits: int, signed_a: bool, architecture: int) -> None:
    kernels.emulate(7, architecture)
    a, b = matrices(17, 9, 2048, bits, signed_a, extreme=True)
    rest = (bits, signed_a, None, None, False, torch.int32)
    assert torch.equal(kernels.gemm(a, b, *rest), reference(a, b, *rest))


@on_every_processor
@pytest.mark.parametrize(
    "out_dtype", [torch.float32, torch.float16, torch.int8, torch.uint8], ids=str
)
def test_epilogue(kernels: Kernels, out_dtype: torch.dtype, architecture: int) -> None:
    kernels.emulate(3, architecture)
    a, b = matrices(20, 18, 64, 8, False)
    scale, bias = torch.rand(18) * 1e-3, torch.randn(18)
    bias[3], bias[4], bias[5] = torch.nan, torch.inf, -torch.inf
    for s, t, relu in ((scale, bias, False), (scale, bias, True), (scale, None, False)):
        rest = (8, False, s, t, relu, out_dtype)
        found, expected = kernels.gemm(a, b, *rest), reference(a, b, *rest)
        assert found.dtype == out_dtype
        assert torch.equal(found.double().nan_to_num(7e9), expected.double().nan_to_num(7e9))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    m=st.integers(1, 40), n=st.integers(1, 40), k=st.integers(1, 100), seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS), architecture=st.sampled_from(ARCHITECTURES),
)  # fmt: skip
def test_any_shape_in_any_order(
    kernels: Kernels, m: int, n: int, k: int, seed: int, kind: Any, architecture: int
) -> None:
    kernels.emulate(seed, architecture)
    a, b = matrices(m, n, 2 * k, *kind)
    rest = (*kind, None, None, False, torch.int32)
    assert torch.equal(kernels.gemm(a, b, *rest), reference(a, b, *rest))


@of_every_kind
def test_the_operation(bits: int, signed_a: bool) -> None:
    a, b = matrices(5, 6, 32, bits, signed_a)
    found = ops.gemm_s8(a, b) if bits == 8 else ops.gemm_s4(a, b, signed_a)
    if bits == 8:
        assert torch.equal(found, (a.long() @ b.long().t()).int())
    rest = (None, torch.ones(6), True, torch.float16)
    torch.library.opcheck(torch.ops.ptqsr.gemm.default, (a, b, bits, signed_a, *rest))


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(b=torch.zeros(3, 5).to(torch.int8)), ValueError, r"b has shape \(3, 5\)"),
        (dict(a=torch.zeros(2, 4)), TypeError, "a is torch.float32"),
        (dict(out_dtype=torch.int64), TypeError, "out_dtype"),
        (dict(scale=torch.zeros(3)), ValueError, "int32 sums have no scale"),
        (dict(bias=torch.zeros(2), out_dtype=torch.int8), ValueError, "bias has shape"),
        (dict(a=torch.zeros(2, 0).to(torch.int8), b=torch.zeros(3, 0).to(torch.int8)), ValueError,
         "K is 0"),
    ],
)  # fmt: skip
def test_bad_input(change: dict[str, Any], error: type[Exception], words: str) -> None:
    given = dict(a=torch.zeros(2, 4).to(torch.int8), b=torch.zeros(3, 4).to(torch.int8))
    with pytest.raises(error, match=words):
        ops.gemm_s8(**{**given, **change})
