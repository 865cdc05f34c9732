"""dfsq+: weights rounded for what their layers multiply."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from upscaling.networks import lively

import ptqsr
from ptqsr import Config, PtqsrError, models
from ptqsr.methods import moments, refine, units
from ptqsr.models import Lockstep
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import ActivationQuantizer, QuantizedWeight, best_grid, compensated
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


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(2, 40), st.integers(1, 90))
def test_errors_make_up_for_each_other(seed: int, bits: int, count: int, rows: int) -> None:
    """Hardly worse than rounding to nearest, in problems that are always the same: it is greedy."""
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
    """Their weights are rounded to nearest; where none is there, in the whole range."""
    weight, hessian = problem(2, 3, 10, 50)
    hessian[4], hessian[:, 4] = 0, 0
    for h, dead in ((hessian, [4]), (torch.zeros_like(hessian), list(range(10)))):
        step, lowest = best_grid(weight, 4, h.diagonal().float())
        levels = compensated_levels(weight, h, step, lowest, 4)
        nearest = torch.round(weight / step[:, None])
        nearest = nearest.clamp(lowest[:, None], lowest[:, None] + 15)
        assert torch.equal(levels[:, dead].float(), nearest[:, dead])
    whole = grid(weight.amin(1), weight.amax(1), 4)
    assert torch.equal(step, whole[0]) and torch.equal(lowest, whole[1])


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


@pytest.mark.parametrize("variant", ["edsr", "carn_m"])
def test_many_pictures_give_what_few_give(
    variant: str, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """Side by side, or one by one from the start for every layer: the same bits."""
    network = lively(variant, 2)
    pictures = [photograph(20 + seed, 24, seed) for seed in range(3)]
    runs: list[int] = []

    class Counted(Lockstep):
        def __enter__(self) -> Lockstep:
            runs.append(len(self._runs))
            return super().__enter__()

    monkeypatch.setattr(units, "Lockstep", Counted)
    found = []
    for limits in ({}, {"TOGETHER": 3 * 20 * 24}, {"RUNS": 2}):
        with monkeypatch.context() as patch:
            for name, limit in limits.items():
                patch.setattr(units, name, limit)
            found.append(ptqsr.calibrate(network, pictures, Config(method="dfsq+", bits=4)))
    assert runs == [3, 3]  # either network, the first time
    for other in found[1:]:
        expected = other.state_dict()
        assert all(torch.equal(t, expected[name]) for name, t in found[0].state_dict().items())


@pytest.mark.parametrize("limit", [1, 5000, 64 << 20])
@pytest.mark.parametrize(
    "options",
    [
        dict(kernel_size=3, padding=1),
        dict(kernel_size=(3, 2), padding=(2, 0), stride=2, groups=2),
        dict(kernel_size=3, dilation=2, padding=1, padding_mode="circular"),
        dict(kernel_size=1),
    ],
)
def test_moments(options: dict, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of float64, also of what varies little about a large mean; few windows at once."""
    monkeypatch.setattr(moments, "WINDOWS", limit)
    layer = nn.Conv2d(4, 6, **options)
    x = torch.rand(2, 4, 9, 11) * 0.01 + 100
    y = layer(x).detach()
    rows = F.unfold(
        F.pad(x, layer._reversed_padding_repeated_twice, _mode(layer)).double(),
        layer.kernel_size,
        layer.dilation,
        0,
        layer.stride,
    )
    pieces = list(moments.strips(layer, x, y))
    height = max(w.shape[1] for w, _ in pieces) // y.shape[3]
    assert height == 1 or max(w.nbytes for w, _ in pieces) <= limit
    fake = FakeQuantConv2d(layer, Untouched(), QuantizedWeight.from_float(layer.weight, 4))
    found = moments.Moments(fake)
    found.take(fake, x, y)
    for group in range(layer.groups):
        xs = rows.unflatten(1, (layer.groups, -1))[:, group].transpose(0, 1).flatten(1)
        ys = y.double().unflatten(1, (layer.groups, -1))[:, group].transpose(0, 1).flatten(1)
        for corrected in (False, True):
            bias = 0 if corrected else layer.bias.detach().view(layer.groups, -1, 1)[group]
            a, b = (t - t.mean(1, keepdim=True) if corrected else t for t in (xs, ys - bias))
            hessian, crossed = found.squares(group, layer, corrected)
            error = 1e-5 * (xs - xs.mean(1, keepdim=True)).square().sum(1).max()
            assert torch.allclose(hessian, a @ a.mT, rtol=1e-13, atol=float(error))
            assert torch.allclose(crossed, b @ a.mT, rtol=1e-13, atol=float(error))
    assert found.windows == 2 * y.shape[2] * y.shape[3]


def _mode(layer: nn.Conv2d) -> str:
    return "constant" if layer.padding_mode == "zeros" else layer.padding_mode


class Untouched(ActivationQuantizer):
    kind, bits = "untouched", 8

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def nearly_flat(mean: float) -> models.SRNetwork:
    """Layers whose inputs vary little about a large mean."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 1)]
    with torch.no_grad():
        for layer in layers:
            layer.weight *= 0.01
            layer.bias += mean
    return models.wrap(nn.Sequential(*layers), scale=1)


@pytest.mark.parametrize("mean", [1, 10])
def test_inputs_that_vary_little_about_a_large_mean(mean: float) -> None:
    network = nearly_flat(mean)
    pictures = list(torch.rand(2, 1, 3, 24, 24, generator=torch.Generator().manual_seed(0)))
    plus = ptqsr.calibrate(network, pictures, Config(method="dfsq+", bits=4))
    with torch.no_grad():
        assert (plus(pictures[0]) - network(pictures[0])).abs().max() < 1e-5 * mean


def test_a_layer_that_cannot_be_rounded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        torch.linalg.cholesky(-torch.eye(2))

    monkeypatch.setattr(refine, "compensated", fail)
    with pytest.raises(PtqsrError, match=r"^layer module\.1: .*exclude the layer"):
        ptqsr.calibrate(nearly_flat(1), torch.rand(2, 3, 6, 6), Config(method="dfsq+"))


def test_without_a_bias_the_mean_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no bias makes up for it, nearer to the float network than with centred products."""
    network = lively("srresnet", 2)
    pictures = [photograph(32, 36, seed) for seed in range(3)]
    apart = []
    squares = moments.Moments.squares
    for corrected in (None, True):
        if corrected:
            monkeypatch.setattr(
                moments.Moments, "squares", lambda self, g, o, _: squares(self, g, o, True)
            )
        plus = ptqsr.calibrate(network, pictures, Config(method="dfsq+", bits=3))
        layers = [m for m in plus.modules() if isinstance(m, FakeQuantConv2d)]
        assert layers and all(layer.bias is None for layer in layers)
        apart.append(far(plus, network))
    assert apart[0] < apart[1]


def test_biases_that_layers_share_are_corrected_apart() -> None:
    def network(tied: bool) -> models.SRNetwork:
        torch.manual_seed(0)
        net = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)))
        net[2].bias.data.copy_(net[1].bias.data)
        if tied:
            net[2].bias = net[1].bias
        return models.wrap(net, scale=1)

    pictures = [torch.rand(1, 3, 15, 16, generator=torch.Generator().manual_seed(1))]
    found = [ptqsr.calibrate(network(t), pictures, Config(method="dfsq+")) for t in (True, False)]
    with torch.no_grad():
        assert torch.equal(*(quantized(pictures[0]) for quantized in found))
    biases = [m.bias for m in found[0].modules() if isinstance(m, FakeQuantConv2d)]
    assert len(biases) == 2 and not torch.equal(*biases)


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
