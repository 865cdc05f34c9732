"""Networks whose layers choose their bits sample by sample (CADyQ), lowered to a Plan."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import photograph

import ptqsr
from ptqsr import Config, models
from ptqsr.deployment import deploy, describe
from ptqsr.evaluation import recording_bits
from ptqsr.evaluation.chosen import ChosenBits
from ptqsr.images import downscale, to_tensor
from ptqsr.lowering import Choose, Encode, Measure, Moments, Statistics
from ptqsr.models import PatchWise, SRNetwork
from ptqsr.modules import FakeQuantConv2d, sense
from ptqsr.quantizers import SelectedQuantizer, UniformQuantizer, choosers, width
from ptqsr.quantizers.choosing import features

from .cases import by_layer, picture, psnr, quantized, records

pytestmark = pytest.mark.usefixtures("one_thread")
BITS = (4, 6, 8)


def choosing(network: SRNetwork, x: torch.Tensor, by: str = "both") -> SRNetwork:
    """A copy of a network of 8 bits whose layers take any of BITS, a third of x each."""
    made = copy.deepcopy(network)
    g = torch.Generator().manual_seed(0)
    for layer in [m for m in made.modules() if isinstance(m, FakeQuantConv2d)]:
        one = layer.quantizer
        assert isinstance(one, UniformQuantizer)
        low, high = float(one.step * one.lowest), float(one.step * (one.lowest + 255))
        weight = torch.randn(len(BITS), width(by, layer.in_channels), generator=g)
        candidates = [UniformQuantizer.from_range(low, high, bits) for bits in BITS]
        layer.quantizer = SelectedQuantizer(candidates, weight, torch.zeros(len(BITS)), by=by)
        layer.register_forward_pre_hook(spread)
    sense(made)
    with torch.no_grad():
        made(x)
    for layer in made.modules():
        layer._forward_pre_hooks.clear()
    return made


def spread(layer: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
    """Move a selector to where the samples at hand are, so that all candidates are taken."""
    chooser = layer.get_submodule("quantizer")
    assert isinstance(chooser, SelectedQuantizer)
    found = features(inputs[0], chooser.gradient, chooser.by)
    if found.numel():
        chooser.weight /= found.std(0, correction=0) + 0.1 * found.mean(0) + 1e-6
    chooser.bias.copy_(-(found @ chooser.weight.T).mean(0))


def patches(network: SRNetwork, count: int = 6) -> torch.Tensor:
    """From flat to rough."""
    some = [picture(network, 17, 14, seed) * (seed + 1) / count for seed in range(count)]
    return torch.cat(some).contiguous(memory_format=torch.channels_last)


def run(network: SRNetwork, x: torch.Tensor) -> tuple[torch.Tensor, ChosenBits]:
    with torch.no_grad(), recording_bits(network) as chosen:
        return network(x), chosen


def alike(chosen: ChosenBits, theirs: ChosenBits) -> float:
    """The share of equal choices; where two candidates come out nearly the same, they may differ.

    A code that rounding flips changes all deviations after it.
    """
    assert chosen.keys() == theirs.keys()
    same = [a == b for name in theirs for a, b in zip(theirs[name], chosen[name], strict=True)]
    return sum(same) / len(same)


def test_plan() -> None:
    """Nothing is encoded apart, and what convolutions make they measure themselves."""
    fake = quantized("edsr", "minmax8")
    ours = deploy(choosing(fake, patches(fake)))
    assert ours.plan.reason is None and len(records(ours, Measure)) == 1
    layers = [f"body.{block}.body.{conv}" for block in range(2) for conv in (0, 2)]
    assert [record.layer for record in records(ours, Choose)] == layers == list(choosers(ours))
    assert not records(ours, Encode) and not records(ours, Statistics)
    assert len(records(ours, Moments)) == 1  # of what the float head gives
    moments = {layer: record.moments for layer, record in by_layer(ours).items()}
    assert moments == {**dict.fromkeys(layers, True), layers[-1]: False}
    rows = {row["layer"]: row for row in describe(ours.plan)}
    assert rows[layers[0]]["fused"] == ["ReLU"] and rows[layers[1]]["fused"] == ["residual"]
    assert all("every sample chooses 4 or 6 or 8 bits" in rows[name]["remark"] for name in layers)
    assert {"gradient of x", "deviations of head_0"} <= set(rows)


@pytest.mark.parametrize("variant", ["edsr", "rdn", "carn_m", "imdn"])
def test_chooses_as_the_simulated_network(variant: str) -> None:
    """And a sample alone as among others."""
    fake = quantized(variant, "minmax8")
    x = patches(fake)
    simulated = choosing(fake, x)
    wanted, theirs = run(simulated, x)
    ours = deploy(simulated)
    y, chosen = run(ours, x)
    every = [bits for layer in theirs.values() for bits in layer]
    assert set(every) == set(BITS)
    assert alike(chosen, theirs) >= 0.98
    assert psnr(y, wanted) > 40
    with torch.no_grad():
        assert psnr(ours.reconstruct(x, ours.features(x)), y) > 50
        assert psnr(torch.cat([ours(one) for one in x.split(1)]), y) > 50
    by_patches, again = run(PatchWise(ours, patch=14, overlap=0, batch=2), x)
    assert by_patches.shape == y.shape
    assert {len(bits) for bits in again.values()} == {2 * len(bits) for bits in chosen.values()}


@pytest.mark.parametrize("by", ["layer", "patch", "range", "std", "layer-std"])
def test_other_measures(by: str) -> None:
    fake = quantized("rdn", "minmax8")
    x = patches(fake)
    simulated = choosing(fake, x, by)
    (wanted, theirs), (y, chosen) = run(simulated, x), run(deploy(simulated), x)
    assert alike(chosen, theirs) >= 0.98
    assert psnr(y, wanted) > 40


def test_quality() -> None:
    """Contract 4 of the design, of a trained network: within 0.02 dB of the simulated one."""
    pairs = [downscale(photograph(64, 72, seed), 2) for seed in range(4)]
    low, high = (torch.cat([to_tensor(pair[side]) for pair in pairs]) for side in (0, 1))
    network = models.build("edsr", scale=2)
    fake = ptqsr.calibrate(network, [side for side, _ in pairs], Config(method="minmax", bits=8))
    simulated = choosing(fake, low)
    (wanted, theirs), (y, chosen) = run(simulated, low), run(deploy(simulated), low)
    every = [bits for layer in theirs.values() for bits in layer]
    assert len(every) == 4 * 32 and set(every) == set(BITS)
    assert alike(chosen, theirs) >= 0.98
    assert abs(psnr(y, high) - psnr(wanted, high)) < 0.02


def test_compile_and_export() -> None:
    fake = quantized("edsr", "minmax8")
    x = patches(fake)
    ours = deploy(choosing(fake, x))
    with torch.no_grad():
        expected = ours(x)
        torch.compiler.reset()
        compiled = torch.compile(ours, fullgraph=True, backend="eager")
        assert torch.equal(compiled(x), expected)
        exported = torch.export.export(ours, (x,)).module()
        assert torch.equal(exported(x), expected)
    other = copy.deepcopy(ours)
    assert torch.equal(run(other, x)[0], expected)


def test_levels_of_either_sign_need_no_pass() -> None:
    """PAMS' 2^b - 1 levels: the convolutions encode so themselves."""
    fake = copy.deepcopy(quantized("edsr", "minmax8"))
    for layer in [m for m in fake.modules() if isinstance(m, FakeQuantConv2d)]:
        one = layer.quantizer
        lowest = torch.tensor(-127, dtype=torch.int32)
        layer.quantizer = UniformQuantizer(one.step * 2, lowest, bits=8, levels=255)
    ours, x = deploy(fake), patches(fake)
    assert not records(ours, Encode)
    assert [record.dtype for record in ours.plan.convolutions] == 2 * [torch.uint8, torch.float32]
    with torch.no_grad():
        assert psnr(ours(x), fake(x)) > 50
