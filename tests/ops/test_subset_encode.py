"""Statistics, encoding and decoding: contracts 1 and 2, on every instruction set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops_helpers import ISAS, LAYOUTS, SETS, activation, random_points

from ptqsr import native, ops
from ptqsr.ops.reference import subset as reference

SHAPES = [
    (1, 1, 1, 1),
    (2, 3, 1, 7),
    (1, 5, 9, 1),
    (2, 17, 5, 7),
    (1, 48, 11, 13),
    (2, 64, 9, 7),
    (1, 65, 5, 5),
    (1, 128, 3, 5),
    (1, 2, 75, 61),
]
NAMES = ("channel_stats", "normalisation", "subset_decode", "subset_decode_packed")
NAMES += ("subset_encode", "subset_encode_packed")


def bits_for(levels: int) -> int:
    return max(2, (levels - 1).bit_length())


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    wrong = ((found != expected) & ~(found.isnan() & expected.isnan())).nonzero()
    assert len(wrong) == 0, f"first of {len(wrong)} differences at {wrong[0].tolist()}"
    assert found.dtype == expected.dtype and found.shape == expected.shape


def check(x: torch.Tensor, points: torch.Tensor, d: int, mean: Any, scale: Any) -> None:
    """Every way to encode and decode x against the reference and each other."""
    k = ops.subset_encode(x, points, d, mean, scale)
    same(k, reference.subset_encode(x, points, d, mean, scale))
    assert k.stride() == x.contiguous(memory_format=ops.schema.layout(x)).stride()
    y = reference.quantize_given(x, points, d, mean, scale)
    same(ops.subset_decode(k, d, mean, scale), y)
    bits = bits_for(points.shape[1])
    packed = ops.subset_encode_packed(x, points, d, mean, scale, bits)
    same(packed, reference.subset_encode_packed(x, points, d, mean, scale, bits))
    same(ops.subset_decode_packed(packed, points, d, mean, scale, bits), y)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "name, levels",
    [("dfsq-107", n) for n in (1, 2, 3, 8, 16, 31, 32, 33, 64, 65, 107)]
    + [("int8", 16), ("int8", 64), ("int8", 200), ("int8", 254), ("int8", 255), ("sq-2word", 29)],
)
def test_equals_reference(
    isa: str, layout: str, shape: tuple[int, ...], name: str, levels: int
) -> None:
    x, nonnegative = activation(shape, levels)
    x = x.contiguous(memory_format=LAYOUTS[layout])
    points = random_points(SETS[name], shape[1], levels)
    d = SETS[name].denominator
    mean, scale = ops.normalisation(*ops.channel_stats(x), nonnegative)
    y, *statistics = ops.subset_fake_quant(x, points, nonnegative, d)
    same(mean, statistics[0])
    same(scale, statistics[1])
    same(ops.subset_decode(ops.subset_encode(x, points, d, mean, scale), d, mean, scale), y)
    check(x, points, d, mean, scale)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("levels", [2, 16, 40, 100, 255])
def test_ties_and_extremes(isa: str, layout: str, levels: int) -> None:
    """Values on all half-steps and one float beside them, zeros, denormals, huge ones, NaN."""
    d = 127
    points = random_points(SETS["int8"], 16, levels)

    half = torch.arange(-2 * d - 3, 2 * d + 4) / 2
    edges = torch.cat((half, half.nextafter(half + 1), half.nextafter(half - 1)))
    tiny = torch.tensor([0.0, 1e-40, 2.0**-126, 2.0**-127, 2.0**-149, 1.5 * 2.0**-126])
    huge = torch.tensor([1e3, 65536.0, 2.0**31, 1e30, 3e38, torch.inf])
    row = torch.cat((edges, tiny, -tiny, huge, -huge, torch.tensor([torch.nan, -torch.nan])))
    x = row.repeat(1, 16, 1, 1).contiguous(memory_format=LAYOUTS[layout])
    # u = x, and some other scales, among them 0, denormal, negative, infinite and NaN.
    scale = torch.full((1, 16), float(d))
    scale[0, 8:] = torch.tensor([0, 1e-40, 2.0**-100, 1e30, -3.0, torch.inf, torch.nan, 1.0])
    mean = torch.zeros(1, 16)
    mean[0, 4:8] = torch.tensor([-0.0, 1e-40, 0.25, torch.nan])
    check(x, points, d, mean, scale)


def test_ties_go_to_the_smaller_magnitude(isa: str) -> None:
    d = 127
    points = torch.tensor([[-5, -2, 2, 7]]).int()
    x = torch.tensor([-3.5, -3.6, 0.0, -0.0, -1e-30, -1e-39, 4.5, 4.6]).view(1, 1, 1, -1)
    k = ops.subset_encode(x, points, d, torch.zeros(1, 1), torch.full((1, 1), float(d)))
    assert k.flatten().tolist() == [-2, -5, 2, 2, -2, 2, 2, 7]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_value_below_zero_by_rounding(isa: str, layout: str) -> None:
    """The threshold 0 decides on u = (x - mean) * r as rounded, where it is denormal."""
    torch.manual_seed(1)
    scale = torch.linspace(2.0**60, 2.0**61, 4).view(1, 4)
    r = 127 / scale
    target = (2.0**-126 / r.double()).float()
    x = target[..., None] * (1 + torch.arange(-200, 200) * 2.0**-24)
    x = -x.view(1, 4, 20, 20).contiguous(memory_format=LAYOUTS[layout])
    check(x, torch.tensor([[-3, 3]] * 4).int(), 127, torch.zeros(1, 4), scale)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_channel_stats(isa: str, layout: str, shape: tuple[int, ...]) -> None:
    x, _ = activation(shape)
    x = x.contiguous(memory_format=LAYOUTS[layout])
    mean, low, high = ops.channel_stats(x)
    same(low, x.amin((2, 3)))
    same(high, x.amax((2, 3)))
    magnitude = torch.maximum(low.abs(), high.abs()).double()
    assert ((mean.double() - x.double().mean((2, 3))).abs() <= 2**-16 * magnitude).all()
    assert torch.equal(mean[low == high], low[low == high])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 2.0**120, -(2.0**121)])
def test_statistics_of_what_cannot_be_quantized(isa: str, layout: str, value: float) -> None:
    x = torch.randn(2, 18, 7, 6)
    x[1, 2, 3, 3] = value
    x[0, 17] = value
    x = x.contiguous(memory_format=LAYOUTS[layout])
    found = ops.channel_stats(x)
    nonnegative = torch.arange(18) % 4 == 2
    for results in (found, ops.normalisation(*found, nonnegative)):
        for result in results:
            expected = torch.zeros(2, 18).bool()
            expected[1, 2] = expected[0, 17] = True
            assert torch.equal(result.isnan(), expected)
    for a, b in zip(found[1:], reference.channel_stats(x)[1:], strict=True):
        same(a, b)


def test_normalisation(isa: str) -> None:
    nan, inf = torch.nan, torch.inf
    rows = torch.tensor(
        [
            (0.5, -1, 3), (-2, -4, -1), (0, 0, 0), (3, 3, 3), (3.0000002, 3, 3), (nan, 0, 1),
            (0, nan, 1), (0, 0, nan), (0, -inf, 1), (1, 0, 2.0**120), (0, -(2.0**120), 1),
            (0, 0, 2.0**-101), (0, 0, 2.0**-100), (0, 0, 1e-45), (0, -(2.0**119), 2.0**119),
        ]
    )  # fmt: skip
    for flag in (True, False):
        given_ = [column.view(1, -1).repeat(2, 1) for column in rows.unbind(1)]
        nonnegative = torch.full((len(rows),), flag)
        for a, b in zip(
            ops.normalisation(*given_, nonnegative),
            reference.normalisation(*given_, nonnegative),
            strict=True,
        ):
            same(a, b)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_bits_for_every_thread_count_and_batch(isa: str, layout: str) -> None:
    x, nonnegative = activation((3, 19, 70, 81))
    x = x.contiguous(memory_format=LAYOUTS[layout])
    points = random_points(SETS["dfsq-107"], 19, 16)

    def everything(x: torch.Tensor) -> list[torch.Tensor]:
        found = ops.channel_stats(x)
        given_ = (points, 104, *ops.normalisation(*found, nonnegative))
        return [
            *found,
            ops.subset_encode(x, *given_),
            ops.subset_encode_packed(x, *given_, 4),
        ]

    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        results.append(everything(x))
    torch.set_num_threads(threads)
    alone = [everything(x[i : i + 1]) for i in range(3)]
    results.append([torch.cat(parts) for parts in zip(*alone, strict=True)])
    for result in results[1:]:
        for a, b in zip(results[0], result, strict=True):
            assert torch.equal(a, b)


def test_other_strides_and_empty_tensors(isa: str) -> None:
    x, nonnegative = activation((2, 4, 12, 10))
    points = random_points(SETS["dfsq-107"], 8, 16)[::2]
    strided = x[:, :, ::2, 1:]
    mean, scale = ops.normalisation(*ops.channel_stats(strided), nonnegative)
    check(strided, points, 104, mean, scale)
    check(strided, points, 104, mean.t().contiguous().t(), scale.t().contiguous().t())
    check(x[:1, :, :1, :1].expand(2, 4, 3, 5), points, 104, mean, scale)
    for shape in ((0, 4, 3, 3), (2, 4, 0, 3), (2, 0, 3, 3)):
        n, c = shape[:2]
        x = torch.empty(shape)
        for statistics in ops.channel_stats(x):
            same(statistics, torch.zeros(n, c))
        check(x, points[:c], 104, torch.zeros(n, c), torch.ones(n, c))


def test_several_python_threads_at_once(isa: str) -> None:
    inputs = [activation((1, 8, 60, 60), seed)[0] for seed in range(8)]
    points = random_points(SETS["dfsq-107"], 8, 16)
    mean, scale = torch.zeros(1, 8), torch.ones(1, 8)
    expected = [ops.subset_encode_packed(x, points, 104, mean, scale, 4) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            found = pool.map(
                lambda x: ops.subset_encode_packed(x, points, 104, mean, scale, 4), inputs
            )
            assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_flush_to_zero_changes_nothing(isa: str) -> None:
    x = torch.full((1, 16, 30, 30), 2.0**-99) * torch.linspace(0, 1, 900).view(30, 30)
    x *= 2.0**-30
    points = random_points(SETS["dfsq-107"], 16, 16)
    given_ = (points, 104, torch.zeros(1, 16), torch.full((1, 16), 2.0**-100))
    expected = ops.subset_encode(x, *given_)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        found = ops.subset_encode(x, *given_)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(expected, found)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_points_shapes_and_values(isa: str, data: st.DataObject) -> None:
    d = data.draw(st.integers(1, 127))
    c = data.draw(st.sampled_from((1, 3, 5, 16, 17, 32, 48, 64, 65)))
    shape = (data.draw(st.integers(1, 2)), c, data.draw(st.integers(1, 9)), 5)
    levels = data.draw(st.integers(1, 2 * d + 1))
    torch.manual_seed(data.draw(st.integers(0, 1 << 30)))
    # Every channel its own part of the range, so that the windows differ.
    rows = []
    for _ in range(c):
        width = int(torch.randint(levels, 2 * d + 2, ()))
        first = int(torch.randint(-d, d - width + 2, ()))
        rows.append((torch.randperm(width)[:levels] + first).sort()[0].int())
    points = torch.stack(rows)
    x = torch.randn(shape) * 3
    x = torch.where(torch.rand(shape) < 0.5, (x * 8).round() / 2, x)
    layout = data.draw(st.sampled_from(sorted(LAYOUTS)))
    mean = (torch.randn(shape[0], c) * 2).round() / 2
    scale = torch.rand(shape[0], c) * 4 + 0.1
    scale[:, ::2] = d / 8
    check(x.contiguous(memory_format=LAYOUTS[layout]), points, d, mean, scale)


def arguments(name: str) -> dict[str, Any]:
    """Good arguments of an operation, of 5 channels."""
    x, nonnegative = activation((2, 5, 6, 7))
    mean, scale = torch.zeros(2, 5), torch.ones(2, 5)
    points = random_points(SETS["dfsq-107"], 5, 8)
    given_ = dict(denominator=104, mean=mean, scale=scale)
    return {
        "channel_stats": dict(x=x),
        "normalisation": dict(mean=mean, low=-scale, high=scale, nonnegative=nonnegative),
        "subset_decode": dict(k=x.to(torch.int8), **given_),
        "subset_decode_packed": dict(
            packed=torch.zeros(2, 6, 7, 2, dtype=torch.uint8), points=points, **given_, bits=3
        ),
        "subset_encode": dict(x=x, points=points, **given_),
        "subset_encode_packed": dict(x=x, points=points, **given_, bits=3),
    }[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(name: str, layout: str) -> None:
    good = arguments(name)
    for key in ("x", "k"):
        if key in good:
            good[key] = good[key].contiguous(memory_format=LAYOUTS[layout])
    torch.library.opcheck(getattr(torch.ops.ptqsr, name).default, tuple(good.values()))


@pytest.mark.parametrize("name", NAMES)
def test_native_kernels_are_registered(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"ptqsr::{name}", "CPU")
    assert ISAS and ISAS[0] == "portable", "the native module is not built"


@pytest.mark.parametrize("name", NAMES)
def test_without_native_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = getattr(ops, name)(**arguments(name))
    monkeypatch.setattr(native, "load", lambda: None)
    found = getattr(ops, name)(**arguments(name))
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


ENCODERS = ("subset_encode", "subset_encode_packed")
DECODERS = ("subset_decode", "subset_decode_packed")


@pytest.mark.parametrize(
    "names, change, error, words",
    [
        (("channel_stats", *ENCODERS), dict(x=torch.zeros(2, 3)), ValueError, "N, C, H, W"),
        (("channel_stats", *ENCODERS), dict(x=torch.zeros(2, 5, 6, 7).double()), TypeError, "x is"),
        (ENCODERS, dict(x=torch.zeros(2, 4, 6, 7)), ValueError, r"must have \(4, L\)"),
        (ENCODERS, dict(x=torch.zeros(2, 5, 6, 7, device="meta")), ValueError, "one device"),
        (ENCODERS, dict(points=torch.zeros(5, 0).int()), ValueError, "points"),
        (ENCODERS, dict(points=torch.zeros(5).int()), ValueError, "points"),
        (ENCODERS, dict(points=torch.zeros(5, 2)), TypeError, "int32"),
        ((*ENCODERS, "subset_decode_packed"), dict(points=torch.tensor([[3, 1]] * 5).int()),
         ValueError, "ascend"),
        ((*ENCODERS, "subset_decode_packed"), dict(points=torch.tensor([[0, 105]] * 5).int()),
         ValueError, r"\[-denominator"),
        ((*ENCODERS, "subset_decode_packed"),
         dict(points=torch.tensor([[-(2**31), 0]] * 5).int()), ValueError, r"\[-denominator"),
        ((*ENCODERS, *DECODERS), dict(denominator=128), ValueError, "from 1 to 127"),
        ((*ENCODERS, *DECODERS), dict(denominator=0), ValueError, "from 1 to 127"),
        ((*ENCODERS, *DECODERS), dict(mean=torch.zeros(5)), ValueError, "mean"),
        ((*ENCODERS, *DECODERS), dict(scale=torch.zeros(1, 5)), ValueError, "scale"),
        ((*ENCODERS, *DECODERS), dict(scale=torch.zeros(2, 5).double()), TypeError, "scale"),
        ((*ENCODERS, *DECODERS), dict(mean=torch.zeros(2, 5, device="meta")), ValueError,
         "one device"),
        (("subset_encode_packed", "subset_decode_packed"), dict(bits=2), ValueError, "too many"),
        (("subset_encode_packed", "subset_decode_packed"), dict(bits=9), ValueError, "2 to 8"),
        (("subset_encode_packed", "subset_decode_packed"), dict(bits=1), ValueError, "2 to 8"),
        (("subset_decode",), dict(k=torch.zeros(2, 5, 6, 7)), TypeError, "int8"),
        (("subset_decode",), dict(k=torch.zeros(2, 5).to(torch.int8)), ValueError, "N, C, H, W"),
        (("subset_decode_packed",), dict(packed=torch.zeros(2, 6, 7, 3, dtype=torch.uint8)),
         ValueError, "5 channels of 3 bits"),
        (("subset_decode_packed",), dict(packed=torch.zeros(2, 6, 7, 2)), TypeError, "uint8"),
        (("subset_decode_packed",),
         dict(packed=torch.full((2, 6, 7, 2), 255, dtype=torch.uint8),
              points=torch.arange(7).repeat(5, 1).int()), ValueError, "code is too large"),
        (("normalisation",), dict(low=torch.zeros(5)), ValueError, r"must have \(2, 5\)"),
        (("normalisation",), dict(nonnegative=torch.zeros(4).bool()), ValueError, r"have \(5\)"),
        (("normalisation",), dict(nonnegative=torch.zeros(5)), TypeError, "bool"),
        (("normalisation",), dict(high=torch.zeros(2, 5).double()), TypeError, "high"),
        (("normalisation",), dict(high=torch.zeros(2, 5, device="meta")), ValueError, "device"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else "",
)  # fmt: skip
@pytest.mark.parametrize("use_reference", [False, True], ids=["native", "reference"])
def test_bad_input(
    names: tuple[str, ...],
    change: dict[str, Any],
    error: type[Exception],
    words: str,
    use_reference: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if use_reference:
        monkeypatch.setattr(native, "load", lambda: None)
    for name in names:
        with pytest.raises(error, match=words):
            getattr(ops, name)(**{**arguments(name), **change})
