"""subset_fake_quant: contracts 1 and 2 of the design, on every instruction set of this machine."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops_helpers import ISAS, LAYOUTS, SETS, SHAPES, activation, random_points

from ptqsr import native, ops


def check(x: torch.Tensor, points: torch.Tensor, nonnegative: torch.Tensor, d: int) -> None:
    y, mean, scale = ops.subset_fake_quant(x, points, nonnegative, d)
    # Contract 1.
    exact = x.double().mean((2, 3))
    exact[:, nonnegative] = 0
    low, high = x.amin((2, 3)), x.amax((2, 3))
    magnitude = torch.maximum(low.abs(), high.abs()).double()
    assert ((mean.double() - exact).abs() <= 2**-16 * magnitude).all()
    expected = torch.maximum(high - mean, mean - low)
    assert torch.equal(scale, torch.where(expected < 2**-100, 0, expected))
    # Contract 2.
    reference = ops.quantize_given(x, points, d, mean, scale)
    wrong = (y != reference).nonzero()
    assert len(wrong) == 0, f"first of {len(wrong)} differences at {wrong[0].tolist()}"
    assert y.stride() == x.stride()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "name, levels",
    [("dfsq-107", n) for n in (1, 2, 4, 8, 16, 17, 32, 107)]
    + [("dfsq-code", 16), ("dfsq-code", 256), ("sq-2word", 8)],
)
def test_equals_reference(
    isa: str, layout: str, shape: tuple[int, ...], name: str, levels: int
) -> None:
    universal_set = SETS[name]
    x, nonnegative = activation(shape, levels)
    x = x.contiguous(memory_format=LAYOUTS[layout])
    points = random_points(universal_set, shape[1], levels)
    check(x, points, nonnegative, universal_set.denominator)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ties_and_values_around_zero(isa: str, layout: str) -> None:
    """Values on the thresholds, one float beside them, zeros of both signs and denormals."""
    for levels in (16, 64):
        points = random_points(SETS["dfsq-107"], 1, levels)
        t = (points[:, :-1] + points[:, 1:]).float() / 2
        edges = torch.cat((t, torch.nextafter(t, t + 1), torch.nextafter(t, t - 1)), 1).flatten()
        tiny = torch.tensor([0.0, -0.0, 1e-40, -1e-40, 2.0**-126, -(2.0**-126), -(2.0**-127)])
        # A scale of exactly D makes u = x.
        ends = torch.tensor([104.0, -104.0])
        x = torch.cat((edges, tiny, ends)).repeat(10).view(1, 1, 1, -1)
        x = torch.cat((x, -x), 2)
        x = x.contiguous(memory_format=LAYOUTS[layout])
        y, mean, scale = ops.subset_fake_quant(x, points, torch.tensor([True]), 104)
        assert mean.item() == 0 and scale.item() == 104
        assert torch.equal(y, ops.quantize_given(x, points, 104, mean, scale))
        # Ties go to the smaller magnitude, and a tie at 0 to the positive point.
        k = points[0].double()
        distance = (x.double()[..., None] - k).abs()
        nearest = distance.min(-1, keepdim=True).values
        tied = torch.where(distance == nearest, k.abs() * 2 - (k > 0).double(), torch.inf)
        # Just below 0 float64 sees a tie where the contract has a side; the reference decided.
        clear = (x == 0) | (x.abs() > 1e-3)
        assert torch.equal(y.double()[clear], k[tied.argmin(-1)][clear])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_degenerate_channels(isa: str, layout: str) -> None:
    x = torch.zeros(1, 6, 4, 5)
    x[0, 1] = 3.25  # constant, with mean: comes out exactly
    x[0, 2] = 3.25  # constant, non-negative: is quantized, and its maximum is representable
    x[0, 3, 0, 0] = 2.0**-110  # a scale that counts as 0
    x[0, 4] = torch.randn(4, 5)
    x[0, 4, 1, 1] = torch.nan
    x[0, 5] = torch.randn(4, 5)
    x[0, 5, 2, 2] = torch.inf
    x = x.contiguous(memory_format=LAYOUTS[layout])
    points = random_points(SETS["dfsq-107"], 6, 106)
    points[:, -1] = 104
    nonnegative = torch.tensor([True, False, True, True, False, True])
    y, mean, scale = ops.subset_fake_quant(x, points, nonnegative, 104)
    assert (y[0, 0] == 0).all() and scale[0, 0] == 0
    assert (y[0, 1] == 3.25).all() and mean[0, 1] == 3.25 and scale[0, 1] == 0
    assert (y[0, 2] == 3.25).all() and mean[0, 2] == 0
    assert (y[0, 3] == 0).all() and scale[0, 3] == 0
    assert y[0, 4:].isnan().all() and mean[0, 4:].isnan().all() and scale[0, 4:].isnan().all()
    for ours, reference in zip(
        (y, mean, scale),
        ops.reference.subset.subset_fake_quant(x, points, nonnegative, 104),
        strict=True,
    ):
        assert torch.equal(ours.nan_to_num(-1), reference.nan_to_num(-1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_bits_from_every_instruction_set_thread_count_and_batch(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, nonnegative = activation((3, 19, 70, 81))
    x = x.contiguous(memory_format=LAYOUTS[layout])
    points = random_points(SETS["dfsq-107"], 19, 16)
    threads = torch.get_num_threads()
    results = []
    for isa in ISAS:
        monkeypatch.setattr(native, "cpu_isa", lambda isa=isa: isa)
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(ops.subset_fake_quant(x, points, nonnegative, 104))
    torch.set_num_threads(threads)
    alone = [ops.subset_fake_quant(x[i : i + 1], points, nonnegative, 104) for i in range(3)]
    results.append([torch.cat(parts) for parts in zip(*alone, strict=True)])
    for result in results[1:]:
        for a, b in zip(results[0], result, strict=True):
            assert torch.equal(a, b)


def test_other_strides_and_empty_tensors() -> None:
    x, nonnegative = activation((2, 4, 12, 10))
    points = random_points(SETS["dfsq-107"], 4, 16)
    expected = ops.subset_fake_quant(x[:, :, ::2, 1:].contiguous(), points, nonnegative, 104)
    for a, b in zip(
        expected, ops.subset_fake_quant(x[:, :, ::2, 1:], points, nonnegative, 104), strict=True
    ):
        assert torch.equal(a, b)
    expanded = x[:1, :, :1, :1].expand(2, 4, 3, 5)
    assert ops.subset_fake_quant(expanded, points, nonnegative, 104)[0].shape == (2, 4, 3, 5)
    for shape in ((0, 4, 3, 3), (2, 4, 0, 3)):
        y, mean, _ = ops.subset_fake_quant(torch.empty(shape), points, nonnegative, 104)
        assert y.shape == shape and mean.shape == shape[:2]


def test_flush_to_zero_changes_nothing() -> None:
    """Neither the caller's float mode nor that of the pool's threads reaches the result."""
    x = torch.full((1, 16, 60, 60), 2.0**-99)
    x *= torch.linspace(0, 1, 60 * 60).view(60, 60)
    points = random_points(SETS["dfsq-107"], 16, 16)
    nonnegative = torch.ones(16).bool()
    expected = ops.subset_fake_quant(x * 2.0**-10, points, nonnegative, 104)
    expected = [*expected, *ops.subset_fake_quant(x, points, nonnegative, 104)]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        found = [*ops.subset_fake_quant(x * 2.0**-10, points, nonnegative, 104)]
        found += ops.subset_fake_quant(x, points, nonnegative, 104)
    finally:
        torch.set_flush_denormal(False)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_several_python_threads_at_once() -> None:
    inputs = [activation((1, 8, 60, 60), seed) for seed in range(8)]
    points = random_points(SETS["dfsq-107"], 8, 16)
    expected = [ops.subset_fake_quant(x, points, n, 104)[0] for x, n in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = pool.map(lambda p: ops.subset_fake_quant(p[0], points, p[1], 104)[0], inputs)
            assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_works_in_a_forked_child() -> None:
    x, nonnegative = activation((1, 8, 60, 60))
    points = random_points(SETS["dfsq-107"], 8, 16)
    ops.subset_fake_quant(x, points, nonnegative, 104)
    child = os.fork()
    if child == 0:
        ok = ops.subset_fake_quant(x, points, nonnegative, 104)[0].isfinite().all()
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_output_is_the_nearest_level(data: st.DataObject) -> None:
    """Against float64: no level is nearer than the one chosen, up to rounding."""
    name = data.draw(st.sampled_from(sorted(SETS)))
    d = SETS[name].denominator
    levels = data.draw(st.integers(1, 29))
    shape = (
        data.draw(st.integers(1, 2)),
        data.draw(st.integers(1, 20)),
        data.draw(st.integers(1, 9)),
        data.draw(st.integers(1, 40)),
    )
    x, nonnegative = activation(shape, data.draw(st.integers(0, 99)))
    points = random_points(SETS[name], shape[1], levels)
    y, mean, scale = ops.subset_fake_quant(x, points, nonnegative, d)
    m, s = mean.double()[..., None, None], scale.double()[..., None, None]
    all_levels = points.double()[None, :, None, None, :] * (s / d)[..., None] + m[..., None]
    best = (x.double()[..., None] - all_levels).abs().min(-1).values
    ours = (x.double() - y.double()).abs()
    slack = 8 * torch.finfo(torch.float32).eps * (x.double().abs() + m.abs() + s)
    assert (ours <= best + slack).all()


def test_opcheck() -> None:
    x, nonnegative = activation((2, 5, 6, 7))
    points = random_points(SETS["dfsq-107"], 5, 16)
    for sample in (x, x.contiguous(memory_format=torch.channels_last)):
        torch.library.opcheck(
            torch.ops.ptqsr.subset_fake_quant.default, (sample, points, nonnegative, 104)
        )


def test_native_kernels_are_registered() -> None:
    """A lost registration would go unnoticed: the reference gives the same, slowly."""
    assert torch._C._dispatch_has_kernel_for_dispatch_key("ptqsr::subset_fake_quant", "CPU")
    assert ISAS and ISAS[0] == "portable", "the native module is not built"


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(x=torch.zeros(2, 3)), ValueError, "N, C, H, W"),
        (dict(x=torch.zeros(1, 4, 2, 2)), ValueError, r"must have \(4, L\)"),
        (dict(x=torch.zeros(1, 3, 2, 2).double()), TypeError, "float32"),
        (dict(points=torch.zeros(3, 2).long()), TypeError, "int32"),
        (dict(points=torch.tensor([[3, 1]] * 3).int()), ValueError, "ascend"),
        (dict(points=torch.tensor([[1, 1]] * 3).int()), ValueError, "ascend"),
        (dict(points=torch.tensor([[0, 105]] * 3).int()), ValueError, "denominator"),
        (dict(denominator=0), ValueError, "denominator"),
        (dict(denominator=1 << 23), ValueError, "denominator"),
        (dict(nonnegative=torch.zeros(2).bool()), ValueError, r"must have \(3\)"),
        (dict(x=torch.zeros(1, 3, 2, 2, device="meta")), ValueError, "device"),
    ],
    ids=lambda v: str(list(v)[0]) if isinstance(v, dict) else "",
)
def test_bad_input(change: dict, error: type[Exception], words: str) -> None:
    arguments = dict(
        x=torch.zeros(1, 3, 2, 2),
        points=torch.tensor([[0, 5]] * 3).int(),
        nonnegative=torch.zeros(3).bool(),
        denominator=104,
    )
    with pytest.raises(error, match=words):
        ops.subset_fake_quant(**{**arguments, **change})


def test_missing_native_module_is_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "load", lambda: None)
    x, nonnegative = activation((1, 3, 4, 4))
    points = random_points(SETS["dfsq-107"], 3, 8)
    y, mean, scale = ops.subset_fake_quant(x, points, nonnegative, 104)
    assert torch.equal(y, ops.quantize_given(x, points, 104, mean, scale))
    monkeypatch.undo()
    import sys

    native.load.cache_clear()
    monkeypatch.setitem(sys.modules, "ptqsr._native", None)
    monkeypatch.delattr("ptqsr._native", raising=False)
    with pytest.warns(RuntimeWarning, match="no native code"):
        assert native.load() is None
    native.load.cache_clear()
