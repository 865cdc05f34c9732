"""Rounding and steps that are learned, against closed forms."""

from __future__ import annotations

import pytest
import torch

from ptqsr import ops
from ptqsr.quantizers import (
    LearnedStep,
    NearestRounding,
    SoftRounding,
    UniformQuantizer,
    undecided,
)
from ptqsr.quantizers.adaround import inverse_rectified_sigmoid, rectified_sigmoid

LOWEST = torch.tensor([-4, -1], dtype=torch.int32)


def latents(seed: int = 0) -> torch.Tensor:
    """Within the 8 levels of either kernel and beyond."""
    drawn = torch.rand(2, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    return drawn * 11 - 5


def nearest(latent: torch.Tensor) -> torch.Tensor:
    low = LOWEST.view(2, 1, 1, 1)
    return latent.round().clamp(low, low + 7)


def test_the_rectified_sigmoid() -> None:
    v = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0])
    expected = torch.tensor([0.0, 1.2 / (1 + torch.e) - 0.1, 0.5, 1.1 - 1.2 / (1 + torch.e), 1.0])
    assert torch.allclose(rectified_sigmoid(v), expected)
    h = torch.linspace(0, 1, 11)
    assert torch.allclose(rectified_sigmoid(inverse_rectified_sigmoid(h)), h, atol=1e-6)


def test_adaround_starts_at_the_weights_and_hardens_to_the_nearest_levels() -> None:
    latent = latents()
    rounding = SoftRounding(latent, LOWEST, 3)
    low = LOWEST.view(2, 1, 1, 1)
    assert torch.allclose(rounding.soft(), latent.clamp(low, low + 7), atol=1e-5)
    assert torch.equal(rounding.levels(), nearest(latent))
    with torch.no_grad():
        rounding.v *= 1e6
    assert torch.equal(rounding.soft(), rounding.levels())
    for decided in (-50.0, 50.0):  # up or down, whatever is learned is a level
        with torch.no_grad():
            rounding.v.fill_(decided)
        levels = rounding.levels()
        assert ((levels >= low) & (levels <= low + 7)).all() and torch.equal(levels, levels.round())


@pytest.mark.parametrize("beta", [2.0, 4.5, 20.0])
def test_the_regulariser_and_its_gradient(beta: float) -> None:
    h = torch.tensor([0.0, 0.1, 0.45, 0.8, 1.0], dtype=torch.float64, requires_grad=True)
    loss = undecided(h, beta)
    loss.backward()
    apart = 2 * h.detach() - 1
    assert torch.allclose(loss.detach(), (1 - apart.abs() ** beta).sum())
    expected = -2 * beta * apart.abs() ** (beta - 1) * apart.sign()
    assert torch.allclose(h.grad, expected)  # away from the middle
    assert undecided(torch.tensor([0.0, 1.0]), beta) == 0


def test_rounding_straight_through() -> None:
    latent = latents(1)
    rounding = NearestRounding(latent, LOWEST, 3)
    assert torch.allclose(rounding.soft(), nearest(latent), atol=1e-6)
    assert torch.equal(rounding.levels(), nearest(latent))
    weight = torch.rand_like(latent)
    (rounding.soft() * weight).sum().backward()
    assert torch.equal(rounding.v.grad, weight)


def test_what_is_learned_stays_where_gradients_move_it() -> None:
    rounding = NearestRounding(latents() * 3, LOWEST, 3)
    low = LOWEST.view(2, 1, 1, 1)
    before, v = rounding.levels(), rounding.v.detach().clone()
    rounding.confine()
    assert torch.equal(rounding.levels(), before)
    assert torch.equal(rounding.v, v.clamp(low - 0.5, low + 7.5)) and rounding.v.requires_grad
    assert not torch.equal(rounding.v, v)


def test_the_step_that_is_learned() -> None:
    quantizer = UniformQuantizer(torch.tensor(0.5), torch.tensor(-2, dtype=torch.int32), bits=3)
    learned = LearnedStep(quantizer)
    # 2.7 is 5.4 steps: beyond the outermost level, but nearer to it than to where another would be.
    x = torch.tensor([[[[-3.0, -0.9, 0.1, 0.7, 2.4, 2.7, 9.0]]]], requires_grad=True)
    y = learned(x)
    assert torch.equal(y, ops.uniform_fake_quant(x, quantizer.step, quantizer.lowest, 3))
    y.sum().backward()
    assert x.grad.flatten().tolist() == [0, 1, 1, 1, 1, 1, 0]
    # LSQ: the level where clipped, else how far rounding moved, in steps.
    by_step = -2 + (-2 + 1.8) + (0 - 0.2) + (1 - 1.4) + (5 - 4.8) + (5 - 5.4) + 5
    assert float(learned.log_gain.grad) == pytest.approx(0.5 * by_step, rel=1e-5)
