"""Losses of quantization-aware training, and ODM's rule, against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ptqsr.training.losses import deviation, mismatch, structure, structured_transfer
from ptqsr.training.methods.odm import cooperate

# Two channels of two pixels: maps (9 + 16, 0 + 0) and (1 + 4, 4 + 1).
ONE = torch.tensor([[3.0, 0.0], [4.0, 0.0]]).view(1, 2, 1, 2)
TWO = torch.tensor([[1.0, 2.0], [2.0, -1.0]]).view(1, 2, 1, 2)
HALF = math.sqrt(0.5)


def test_structure() -> None:
    assert structure(ONE).tolist() == [[1, 0]]
    assert structure(TWO).tolist() == [[pytest.approx(HALF), pytest.approx(HALF)]]
    assert structure(torch.zeros(1, 2, 3, 3)).abs().max() == 0


def test_structured_transfer() -> None:
    square = (1 - HALF) ** 2 + HALF**2
    both, other = torch.cat((ONE, ONE)), torch.cat((TWO, ONE))
    assert float(structured_transfer(both, other)) == pytest.approx(square / 4)
    assert float(structured_transfer(both, other, "norm")) == pytest.approx(math.sqrt(square) / 2)
    assert float(structured_transfer(ONE * 7, ONE)) == 0


@pytest.mark.parametrize("form", ["mean", "norm"])
def test_structured_transfer_of_equals_has_a_gradient(form: str) -> None:
    x = TWO.clone().requires_grad_()
    structured_transfer(x, TWO, form).backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_deviation() -> None:
    x = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(1, 2, 1, 2).requires_grad_()
    found = deviation(x)
    assert float(found.detach()) == pytest.approx(math.sqrt(5))
    found.backward()
    # (x - mean) / (n sigma)
    expected = torch.tensor([-3.0, -1.0, 1.0, 3.0]) / (4 * math.sqrt(5))
    assert x.grad is not None and torch.allclose(x.grad.flatten(), expected)


def test_deviation_of_a_constant() -> None:
    x = torch.ones(1, 2, 3, 3, requires_grad=True)
    deviation(x).backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_mismatch() -> None:
    x = torch.tensor([[1.0, 3.0], [10.0, 16.0]]).view(1, 2, 1, 2)  # means 2, 13; deviations 1, 3
    assert mismatch(x) == (pytest.approx(5.5), pytest.approx(1.0))


def parameters() -> tuple[nn.Parameter, nn.Parameter]:
    one, two = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(2))
    one.grad, two.grad = torch.tensor([1.0, -1.0, 0.0, 2.0]), torch.tensor([-1e-30, 3.0])
    return one, two


@pytest.mark.parametrize("always", [False, True])
def test_cooperation(always: bool) -> None:
    """Eq. 5: added where the product is not negative; 1e-30 squared is 0 in float32."""
    one, two = parameters()
    regular = {one: torch.tensor([0.5, 0.5, -7.0, -3.0]), two: torch.tensor([1e-30, 4.0])}
    assert cooperate(regular, always=always) == pytest.approx(3 / 6)
    assert one.grad is not None and two.grad is not None
    if always:
        assert one.grad.tolist() == [1.5, -0.5, -7, -1] and two.grad.tolist() == [0, 7]
    else:
        assert one.grad.tolist() == [1.5, -1, -7, 2]
        assert two.grad.tolist() == [pytest.approx(-1e-30), 7]
