"""dfsq+: weights rounded for what their layers multiply."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from upscaling.networks import lively

import ptqsr
from ptqsr import Config, models
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import QuantizedWeight, best_grid, compensated
from ptqsr.quantizers.uniform import grid


def problem(seed: int, kernels: int, count: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's weights [O, n], and the Hessian of inputs that move together."""
    g = torch.Generator().manual_seed(seed)
    mixed = torch.randn(count, count, generator=g)
    x = torch.randn(rows, count, generator=g) @ mixed
    return torch.randn(kernels, count, generator=g), (x.t() @ x).double()


def compensated_levels(
    weight: torch.Tensor, hessian: torch.Tensor, step: torch.Tensor, lowest: torch.Tensor, bits: int
) -> torch.Tensor:
    steps = compensated(weight, hessian, step, lowest, bits)
    assert steps.dtype == torch.float64 and steps.shape == weight.shape
    return torch.round(steps).clamp(lowest[:, None], lowest[:, None] + (1 << bits) - 1)


def loss(weight: torch.Tensor, levels: torch.Tensor, step: torch.Tensor, h: torch.Tensor) -> float:
    error = levels.double() * step.double()[:, None] - weight.double()
    return float(((error @ h) * error).sum())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(2, 40), st.integers(1, 90))
def test_errors_make_up_for_each_other(seed: int, bits: int, count: int, rows: int) -> None:
    """Never much worse than rounding to nearest, and within the levels."""
    weight, hessian = problem(seed, 5, count, rows)
    step, lowest = best_grid(weight, bits, hessian.diagonal().float())
    levels = compensated_levels(weight, hessian, step, lowest, bits)
    top = lowest + (1 << bits) - 1
    nearest = torch.round(weight / step[:, None]).clamp(lowest[:, None], top[:, None])
    bound = loss(weight, nearest, step, hessian)
    damping = 0.01 * hessian.diagonal().mean() * 2 * (weight.numel() * step.max() ** 2)
    assert loss(weight, levels, step, hessian) <= 1.05 * bound + float(damping)


def test_rounding_for_what_is_multiplied_halves_the_loss() -> None:
    weight, hessian = problem(1, 64, 72, 4000)
    step, lowest = grid(weight.amin(1), weight.amax(1), 4)
    levels = compensated_levels(weight, hessian, step, lowest, 4)
    nearest = torch.round(weight / step[:, None])
    assert loss(weight, levels, step, hessian) < 0.5 * loss(weight, nearest, step, hessian)


def test_inputs_that_are_never_there() -> None:
    weight, hessian = problem(2, 3, 10, 50)
    hessian[4], hessian[:, 4] = 0, 0
    for h in (hessian, torch.zeros_like(hessian)):
        step, lowest = best_grid(weight, 4, h.diagonal().float())
        levels = compensated_levels(weight, h, step, lowest, 4)
        assert (levels.abs() < 16).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8))
def test_the_best_range_is_no_worse_than_the_whole(seed: int, bits: int) -> None:
    weight, hessian = problem(seed, 4, 20, 30)
    importance = hessian.diagonal().float()

    def lost(step: torch.Tensor, lowest: torch.Tensor) -> torch.Tensor:
        top = lowest + (1 << bits) - 1
        levels = torch.round(weight / step[:, None]).clamp(lowest[:, None], top[:, None])
        return ((levels * step[:, None] - weight).square() * importance).sum(1)

    whole = grid(weight.amin(1), weight.amax(1), bits)
    assert (lost(*best_grid(weight, bits, importance)) <= lost(*whole) * (1 + 1e-5)).all()


def far(network: models.SRNetwork, other: models.SRNetwork) -> float:
    """Mean squared error on pictures that calibration has not seen."""
    found = 0.0
    with torch.no_grad():
        for seed in (7, 8):
            x = models_input(network, photograph(24, 26, seed))
            found += float((network(x) - other(x)).square().mean())
    return found


def models_input(network: models.SRNetwork, picture: object) -> torch.Tensor:
    x = torch.as_tensor(picture).permute(2, 0, 1)[None].float() / 255
    return x[:, :1] if network.colours == "y" else x


@pytest.mark.parametrize("variant", ["edsr", "carn_m", "imdn", "srresnet"])
def test_closer_to_the_float_network_than_dfsq(variant: str) -> None:
    """Groups, recursion, several inputs: less error on other pictures, the same storage."""
    network = lively(variant, 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pictures = [photograph(40, 44, seed) for seed in range(4)]
    plain = ptqsr.calibrate(network, pictures, Config(bits=3, selector="optimal"))
    plus = ptqsr.calibrate(network, pictures, Config(method="dfsq+", bits=3))
    assert far(plus, network) < far(plain, network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    for name, layer in plus.named_modules():
        if not isinstance(layer, FakeQuantConv2d):
            continue
        other = plain.get_submodule(name)
        assert isinstance(other, FakeQuantConv2d)
        layer.quantized_weight.check()
        assert torch.equal(layer.weight, layer.quantized_weight.dequantize())
        assert layer.weight_codes.shape == other.weight_codes.shape


def test_the_same_on_any_number_of_threads() -> None:
    network = lively("edsr", 2)
    pictures = [photograph(30, 34, seed) for seed in range(2)]
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            quantized = ptqsr.calibrate(network, pictures, Config(method="dfsq+", bits=4))
            found.append({name: t.clone() for name, t in quantized.state_dict().items()})
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


@pytest.mark.parametrize("variant", ["edsr", "carn_m"])
def test_many_pictures_give_what_few_give(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side, or one by one from the start for every layer: the same bits."""
    network = lively(variant, 2)
    pictures = [photograph(20 + seed, 24, seed) for seed in range(3)]
    found = []
    for limit in (1 << 19, 0):
        monkeypatch.setattr("ptqsr.methods.refine.TOGETHER", limit)
        found.append(ptqsr.calibrate(network, pictures, Config(method="dfsq+", bits=4)))
    expected = found[1].state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in found[0].state_dict().items())


def test_other_paddings() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding="same", padding_mode="reflect", dilation=2),
        nn.Conv2d(8, 8, (3, 1), padding=(1, 0), bias=False),
        nn.Conv2d(8, 3, 3, padding=1),
    )
    model = models.wrap(net, scale=1)
    pictures = [torch.rand(1, 3, 15, 16, generator=torch.Generator().manual_seed(1))]
    plus = ptqsr.calibrate(model, pictures, Config(method="dfsq+", bits=4))
    layers = [m for m in plus.modules() if isinstance(m, FakeQuantConv2d)]
    assert len(layers) == 2 and layers[1].bias is None
    # The mean of what a layer gives is that of the float one.
    kept: list[torch.Tensor] = []
    for network in (copy.deepcopy(model).eval(), plus):
        layer = [m for m in network.modules() if isinstance(m, nn.Conv2d)][1]
        handle = layer.register_forward_hook(lambda *given: kept.append(given[2]))
        with torch.no_grad():
            network(pictures[0])
        handle.remove()
    means = [y.mean((0, 2, 3)) for y in kept]
    assert torch.allclose(*means, atol=1e-5)


def test_levels_become_codes() -> None:
    levels = torch.tensor([[[[-3]], [[4]]], [[[0]], [[9]]]])
    step, lowest = torch.tensor([0.5, 0.1]), torch.tensor([-3, 0], dtype=torch.int32)
    weight = QuantizedWeight.from_levels(levels, step, lowest, 3)
    weight.check()
    expected = torch.tensor([-1.5, 2.0, 0.0, 0.7])
    assert torch.allclose(weight.dequantize().flatten(), expected)
