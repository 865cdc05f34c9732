"""Trainable quantizers: gradients against closed forms and the relaxed function, and freezing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ptqsr.quantizers import Offsets
from ptqsr.training.trainable import (
    ClippedQuantizer,
    MaxScaleQuantizer,
    MaxWeights,
    MinMaxWeights,
    MovingRangeQuantizer,
    PercentileWeights,
    TanhWeights,
    TrainableQuantizer,
    WeightGrid,
    quantize_within,
    rounded,
)

BITS = [2, 3, 4, 8]


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


def scale(
    alpha: float, bits: int = 4, nonnegative: bool = False, **options: bool
) -> MaxScaleQuantizer:
    made = MaxScaleQuantizer(bits, **options)
    made.start.fill_(2.0)
    made.theta.data.fill_(alpha / 2)
    made.nonnegative.fill_(nonnegative)
    return made


# --- PAMS ---


def test_pams_by_hand() -> None:
    """Eqs. 2-3: alpha = 3, 3 bits, n = 3, step 1."""
    quantizer = scale(3.0, bits=3)
    x = torch.tensor(
        [[[[-5.0, -3.0, -1.6, -0.4, 0.5, 1.5, 2.6, 3.0, 3.2, 9.0]]]], requires_grad=True
    )
    y = quantizer(x)
    assert y.flatten().tolist() == [-3, -3, -2, 0, 0, 2, 3, 3, 3, 3]
    weight = torch.arange(1.0, 11.0).view_as(x)
    (y * weight).sum().backward()
    assert x.grad is not None and quantizer.theta.grad is not None
    assert x.grad.flatten().tolist() == [0, 0, 3, 4, 5, 6, 7, 0, 0, 0]
    # alpha = start * theta, start = 2
    assert float(quantizer.theta.grad) == 2 * (-1 - 2 + 8 + 9 + 10)


@pytest.mark.parametrize("bits", BITS)
def test_pams_is_its_equation(bits: int) -> None:
    x, alpha, n = values(2, 3, 7, 5), 2.5, (1 << (bits - 1)) - 1
    expected = torch.round(x.clamp(-alpha, alpha) * (n / alpha)) * (alpha / n)
    assert (scale(alpha, bits)(x) - expected).abs().max() < 1e-6
    levels = scale(alpha, bits).frozen()
    assert levels.levels == 2 * n + 1 and int(levels.lowest) == -n
    assert float(levels.step) == pytest.approx(alpha / n)


def test_pact_forgets_what_is_below() -> None:
    x = torch.tensor([[[[-9.0, 0.0, 9.0, 8.0]]]], requires_grad=True)
    quantizer = scale(2.0, both_sides=False)
    quantizer(x).sum().backward()
    assert quantizer.theta.grad is not None and float(quantizer.theta.grad) == 2 * 2
    assert x.grad is not None and x.grad.flatten().tolist() == [0, 1, 0, 0]


def test_dorefa_keeps_its_range() -> None:
    assert not scale(2.0, trained=False).theta.requires_grad


def test_moving_average_of_the_max_scale() -> None:
    """Eq. 4, beta 0 at the first step."""
    quantizer = MaxScaleQuantizer(4, beta=0.75)
    batches = [torch.tensor([[1.0, -4.0], [2.0, 0.0]]), torch.tensor([[8.0, 1.0], [-2.0, 0.0]])]
    for batch in batches:
        quantizer.observe(batch.view(2, 1, 1, 2))
    assert float(quantizer.alpha.detach()) == 0.75 * 3 + 0.25 * 5
    assert not quantizer.nonnegative


def test_a_channel_that_is_never_negative_has_a_power_of_2_of_levels() -> None:
    quantizer = MaxScaleQuantizer(4)
    x = values(2, 3, 5, 5).relu()
    quantizer.observe(x)
    frozen = quantizer.frozen()
    assert (frozen.levels, int(frozen.lowest)) == (16, -8)
    assert torch.equal(frozen(x), scale(quantizer.alpha.item())(x))


def descend(quantizer: TrainableQuantizer, x: torch.Tensor, steps: int) -> float:
    """Return the error of what x becomes after gradient descent on that error."""
    optimiser = torch.optim.SGD(quantizer.parameters(), lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        (quantizer(x) - x).square().mean().backward()
        optimiser.step()
    return float((quantizer(x) - x).detach().square().mean())


def test_a_scale_below_0_recovers() -> None:
    x, quantizer = values(1, 3, 6, 6), scale(-1.0, bits=8)
    assert float(quantizer(x).detach().abs().max()) < 1e-5  # nothing is left of x
    assert descend(quantizer, x, 100) < 0.3 and float(quantizer.alpha.detach()) > 4


def test_a_start_is_taken_from_another() -> None:
    taught, made = scale(3.0, nonnegative=True), MaxScaleQuantizer(4)
    made.begin_as(taught)
    assert (float(made.start), float(made.theta.detach())) == (3, 1) and made.nonnegative


# --- ODM and TF-Lite ---


def clipped(low: float, high: float, bits: int = 4, **offsets: bool) -> ClippedQuantizer:
    made = ClippedQuantizer(bits, 3, **({"shifts": False, "scales": False} | offsets))
    made.first_low.fill_(low)
    made.first_high.fill_(high)
    return made


def test_clips_by_hand() -> None:
    quantizer = clipped(-4.0, 1.0, bits=2)
    quantizer.low_by.data.fill_(0.75)  # by 3 and 1 in units of the larger magnitude:
    quantizer.high_by.data.fill_(0.25)  # -1 .. 2, step 1
    x = torch.tensor([[[[-4.0, -1.0, -0.6, 0.0, 0.4, 1.7, 2.0, 5.0]]]], requires_grad=True)
    y = quantizer(x)
    assert y.flatten().tolist() == [-1, -1, -1, 0, 0, 2, 2, 2]
    (y * torch.arange(1.0, 9.0)).sum().backward()
    assert x.grad is not None and quantizer.low_by.grad is not None
    assert quantizer.high_by.grad is not None
    assert x.grad.flatten().tolist() == [0, 0, 3, 4, 5, 6, 0, 0]
    found = (float(quantizer.low_by.grad), float(quantizer.high_by.grad))
    assert found == (4 * (1 + 2), 4 * (7 + 8))


@pytest.mark.parametrize(("low", "high"), [(0.5, 3.0), (-3.0, -0.5), (0.5, -0.5)])
def test_ends_beyond_0_recover(low: float, high: float) -> None:
    """An end that has crossed 0 counts as 0, and what lies beyond it moves it back."""
    x = values(1, 3, 6, 6)
    quantizer = clipped(-2.0, 2.0, bits=8)
    quantizer.low_by.data.fill_((low + 2) / 2)
    quantizer.high_by.data.fill_((high - 2) / 2)
    assert descend(quantizer, x, 200) < 0.3
    ends = [float(end.detach()) for end in quantizer.ends()]
    assert ends[0] < -4 and ends[1] > 4


def test_zeros_do_not_move_an_end_at_0() -> None:
    quantizer = clipped(0.0, 2.0)
    x = values(1, 3, 6, 6).relu().requires_grad_()
    quantizer(x).sum().backward()
    assert quantizer.low_by.grad is not None and float(quantizer.low_by.grad) == 0
    assert int(quantizer.frozen().lowest) == 0


def test_percentiles_are_averaged() -> None:
    quantizer = clipped(0.0, 0.0)
    for shift in (0, 10):
        quantizer.observe(torch.arange(200.0).view(1, 2, 10, 10) - 100 + shift)
    assert (float(quantizer.first_low), float(quantizer.first_high)) == (-99 + 5, 98 + 5)


def test_ranges_of_tensors_that_are_mostly_0() -> None:
    sparse = torch.zeros(1, 1, 50, 50)
    sparse[0, 0, 7, 3] = 17.0
    quantizer = clipped(0.0, 0.0)
    quantizer.observe(sparse)
    assert (float(quantizer.first_low), float(quantizer.first_high)) == (0, 17)
    dead = clipped(0.0, 0.0, bits=8)
    dead.observe(torch.zeros(1, 1, 5, 5))
    assert not dead(torch.zeros(1, 1, 5, 5)).any()
    assert descend(dead, values(1, 3, 6, 6), 400) < 0.3  # it comes to life


def test_offsets_by_hand() -> None:
    """Eqs. 7-8: shift before gain, both with 4 bits, 2^3 - 1 levels on either side."""
    quantizer = clipped(-70.0, 80.0, bits=4, shifts=True, scales=True)  # step 10
    assert quantizer.shift is not None and quantizer.gain is not None
    # In widths of the range, 150; step 1: 7, 2, -1
    quantizer.shift.data = torch.tensor([7.0, 2.4, -1.0]) / 150
    quantizer.gain.data = torch.tensor([1.4, 0.7, 0.5])  # step 0.2: 1.4, 0.6 or 0.8, 0.4
    shifts = quantizer.shifts()
    assert shifts is not None
    assert torch.allclose(Offsets.from_float(shifts).values().flatten(), torch.tensor([7.0, 2, -1]))
    gain = Offsets.from_float(quantizer.gain).values().flatten()
    x = torch.full((1, 3, 1, 1), 20.0, requires_grad=True)
    y = quantizer(x)
    expected = ((torch.tensor([27.0, 22.0, 19.0]) * gain) / 10).round() * 10
    assert torch.equal(y.flatten(), expected)
    y.sum().backward()
    assert x.grad is not None and torch.allclose(x.grad.flatten(), gain)
    assert torch.allclose(quantizer.shift.grad, 150 * gain)  # type: ignore[arg-type]
    assert torch.allclose(quantizer.gain.grad, torch.tensor([27.0, 22, 19]))  # type: ignore[arg-type]
    frozen = quantizer.frozen()
    frozen.check(3)
    assert frozen.kind == "uniform with offsets" and torch.equal(frozen(x), y)
    assert frozen.storage_bits() == 64 + 2 * (3 * 4 + 32)


def test_moving_ranges() -> None:
    quantizer = MovingRangeQuantizer(4, beta=0.5)
    quantizer.observe(torch.tensor([[-1.0, 3.0], [-3.0, 5.0]]).view(2, 1, 1, 2))
    assert (float(quantizer.low), float(quantizer.high)) == (-2, 4)
    x = torch.tensor([[-4.0, 6.0], [-4.0, 6.0]]).view(2, 1, 1, 2)
    quantizer.train()(x)
    assert (float(quantizer.low), float(quantizer.high)) == (-3, 5)
    quantizer.eval()(x)
    assert (float(quantizer.low), float(quantizer.high)) == (-3, 5)


# --- all of them ---

QUANTIZERS: dict[str, Callable[[int], TrainableQuantizer]] = {
    "pams": lambda bits: scale(2.5, bits),
    "pams, nonnegative": lambda bits: scale(2.5, bits, nonnegative=True),
    "odm": lambda bits: clipped(-1.7, 3.1, bits),
    "odm, offsets": lambda bits: lively(clipped(-1.7, 3.1, bits, shifts=True, scales=True)),
    "tflite": lambda bits: ranged(MovingRangeQuantizer(bits)),
}


def lively(quantizer: ClippedQuantizer) -> ClippedQuantizer:
    assert quantizer.shift is not None and quantizer.gain is not None
    quantizer.shift.data = values(3, seed=4) / 5
    quantizer.gain.data = 1 + values(3, seed=5) / 10
    return quantizer


def ranged(quantizer: MovingRangeQuantizer) -> MovingRangeQuantizer:
    quantizer.low.fill_(-1.7)
    quantizer.high.fill_(3.1)
    return quantizer


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", QUANTIZERS)
def test_frozen_is_the_same(name: str, bits: int) -> None:
    quantizer = QUANTIZERS[name](bits).eval()
    x = values(2, 3, 9, 8, seed=2) * 2
    if "nonnegative" in name:
        x = x.relu()
    frozen = quantizer.frozen()
    frozen.check(3)
    y = quantizer(x)
    assert torch.equal(frozen(x), y) and torch.equal(frozen(y), y) == ("offsets" not in name)
    assert len(y.unique()) <= 1 << bits
    again = type(frozen).restore(frozen.settings(), dict(frozen.named_buffers()))
    assert torch.equal(again(x), y)


@pytest.mark.parametrize("name", ["pams", "odm", "odm, offsets"])
def test_gradients_are_those_of_the_relaxed_function(name: str) -> None:
    """Finite differences of the same function with the identity in the place of rounding."""
    quantizer = QUANTIZERS[name](8)
    x = values(1, 3, 6, 5, seed=3).double().mul(1.3).float()
    weight = values(1, 3, 6, 5, seed=6)
    (quantizer(x) * weight).sum().backward()

    def relaxed() -> float:
        y = x.double()
        if isinstance(quantizer, ClippedQuantizer):
            low, high = (end.detach().double() for end in quantizer.ends())
            # 4-bit offsets, relaxed, are what they are displaced from where they are now.
            for part, start in zip(offsets(), starts, strict=True):
                if part is not None and start is not None:
                    moved = Offsets.from_float(start).values().double()
                    moved = moved + (part.double() - start.double()).view(-1, 1, 1)
                    y = y + moved if start is starts[0] else y * moved
            return float((y.clamp(low, high) * weight).sum())
        assert isinstance(quantizer, MaxScaleQuantizer)
        alpha = quantizer.alpha.detach().double()
        return float((y.clamp(-alpha, alpha) * weight).sum())

    def offsets() -> list[torch.Tensor | None]:
        if not isinstance(quantizer, ClippedQuantizer):
            return []
        parts = (quantizer.shifts(), quantizer.gain)
        return [p if p is None else p.detach().clone() for p in parts]

    starts = offsets()
    for parameter in quantizer.parameters():
        assert parameter.grad is not None
        for i in range(parameter.numel()):
            place = parameter.data.view(-1)
            before, ends = float(place[i]), []
            for change in (1e-3, -1e-3):
                place[i] = before + change
                ends.append(relaxed())
            place[i] = before
            slope = (ends[0] - ends[1]) / 2e-3
            assert float(parameter.grad.view(-1)[i]) == pytest.approx(slope, rel=1e-2, abs=1e-2)


def test_rounding_goes_straight_through() -> None:
    x = torch.tensor([-1.5, 0.5, 2.4], requires_grad=True)
    y = rounded(x)
    assert y.tolist() == [-2, 0, 2]
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 2, 3]


def test_gradients_under_autocast() -> None:
    quantizer = scale(2.5)
    with torch.autocast("cpu", torch.bfloat16):
        x = nn.Conv2d(2, 3, 3)(values(1, 2, 6, 6))
        assert x.dtype == torch.bfloat16
        y = quantizer(x)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert quantizer.theta.grad is not None


def test_only_what_is_asked_for_has_gradients() -> None:
    low, high, step = torch.tensor(-1.0), torch.tensor(1.0), torch.tensor(0.5)
    x = values(2, 2).requires_grad_()
    y = quantize_within(x, low, high, step, torch.tensor(-2, dtype=torch.int32), bits=2)
    y.sum().backward()
    assert x.grad is not None and low.grad is None


# --- weights ---

GRIDS: dict[str, Callable[[int, torch.Tensor], WeightGrid]] = {
    "max": lambda bits, w: MaxWeights(bits),
    "tanh": lambda bits, w: TanhWeights(bits),
    "minmax": lambda bits, w: MinMaxWeights(bits),
    "percentile": lambda bits, w: PercentileWeights(bits, w),
}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", GRIDS)
def test_frozen_weights_are_the_same(name: str, bits: int) -> None:
    weight = values(5, 3, 3, 3, seed=7) / 10
    made = GRIDS[name](bits, weight)
    frozen = made.frozen(weight)
    frozen.check()
    assert torch.equal(frozen.dequantize(), made(weight))
    assert len(frozen.step.unique()) == 1  # per tensor
    assert len(made(weight).unique()) <= 1 << bits


def test_max_weights_by_hand() -> None:
    weight = torch.tensor([-0.7, 0.44, 0.06, 0.0]).view(1, 1, 2, 2).requires_grad_()
    y = MaxWeights(4)(weight)  # a = 0.7, n = 7, step 0.1
    assert torch.allclose(y.flatten(), torch.tensor([-0.7, 0.4, 0.1, 0.0]))
    y.sum().backward()
    assert weight.grad is not None and torch.allclose(weight.grad, torch.ones_like(weight))


@pytest.mark.parametrize("name", ["max", "tanh", "minmax"])
def test_ranges_that_follow_weights_cut_nothing(name: str) -> None:
    """w / (w / n) may be a little more than n: the largest weight learns all the same."""
    for seed in range(40):
        weight = (values(2, 2, 3, 3, seed=seed) / 10).requires_grad_()
        for bits in BITS:
            weight.grad = None
            GRIDS[name](bits, weight)(weight).sum().backward()
            assert weight.grad is not None and weight.grad.all()


def test_tanh_weights_by_hand() -> None:
    weight = torch.tensor([-0.8, 0.5, 0.1, 0.0]).view(1, 1, 2, 2).requires_grad_()
    y = TanhWeights(3)(weight)  # n = 3
    bent = torch.tanh(weight.detach()) / torch.tanh(torch.tensor(0.8))
    assert torch.allclose(y, (bent * 3).round() * 0.8 / 3)
    y.sum().backward()
    slope = (1 - torch.tanh(weight.detach()).square()) / torch.tanh(torch.tensor(0.8)) * 0.8
    assert weight.grad is not None and torch.allclose(weight.grad, slope)


def test_percentile_weights_are_fixed_and_clip() -> None:
    weight = torch.arange(-100.0, 100.0).view(1, 2, 10, 10).requires_grad_()
    made = PercentileWeights(8, weight)
    assert (float(made.low), float(made.high)) == (-99, 98)
    made(weight * 2).sum().backward()
    assert (float(made.low), float(made.high)) == (-99, 98)
    assert weight.grad is not None
    inside = (weight.detach() * 2 >= -99.5) & (weight.detach() * 2 <= 98.5)
    assert torch.equal(weight.grad != 0, inside)


@pytest.mark.parametrize("name", GRIDS)
def test_weights_that_are_all_0(name: str) -> None:
    weight = torch.zeros(2, 1, 3, 3)
    made = GRIDS[name](4, weight)
    assert torch.equal(made(weight), weight) and torch.equal(
        made.frozen(weight).dequantize(), weight
    )
