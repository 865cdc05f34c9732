"""Every network of the zoo, deployed: close to the fake-quantized one, on any picture."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import ptqsr
from ptqsr import Config, models, native
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d

from .cases import METHODS, VARIANTS, Unfolded, deployed, floating, picture, psnr, quantized

pytestmark = pytest.mark.usefixtures("one_thread")
EVERY = pytest.mark.parametrize("variant", VARIANTS)


def flips(network: SRNetwork, x: torch.Tensor) -> float:
    """How far a change of the last places, which flips a code here and there, moves the result."""
    expected = network(x)
    return min(psnr(network(x * (1 + change)), expected) for change in (1e-7, 1e-6, -1e-6))


@pytest.mark.parametrize("between", [torch.float16, torch.float32])
@pytest.mark.parametrize("method", METHODS)
@EVERY
@torch.no_grad()
def test_close_to_the_fake_quantized_network(
    variant: str, method: str, between: torch.dtype
) -> None:
    """Deploying costs less than quantizing did; static codes cost next to nothing.

    These networks have random weights: a code that rounding flips is not forgotten.
    """
    fake, ours = quantized(variant, method), deployed(variant, method, between)
    x = picture(fake)
    expected = fake(x)
    cost = psnr(expected, floating(variant)(x))
    y = ours(x)
    assert y.shape == expected.shape and y.dtype == torch.float32
    gain = 10 if between == torch.float32 else 6
    floor = cost - 2 if method == "dfsq4" else min(cost + gain, flips(fake, x) - 3)
    assert psnr(y, expected) > floor, (psnr(y, expected), cost)
    # Both halves for themselves are what upscaling by tiles runs.
    assert psnr(ours.reconstruct(x, ours.features(x)), expected) > floor


@EVERY
@torch.no_grad()
def test_nothing_but_refolding_tells_them_apart(variant: str) -> None:
    """With weights that are not requantized the lowered network is the fake-quantized one."""
    fake, ours = quantized(variant, "dfsq4"), deployed(variant, "dfsq4", torch.float32)
    x = picture(fake)
    expected = fake(x)
    with Unfolded():
        y = ours(x)
    cost = psnr(expected, floating(variant)(x))
    assert psnr(y, expected) > min(cost + 10, flips(fake, x) - 3)


@pytest.mark.parametrize("method", ["minmax8", "minmax4"])
@EVERY
@torch.no_grad()
def test_static_codes_are_their_integer_reference(
    variant: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: the operations in plain PyTorch, and our kernels."""
    ours = deployed(variant, method)
    x = picture(ours)
    y = ours(x)
    monkeypatch.setattr(native, "load", lambda: None)
    assert torch.equal(ours(x), y)


@EVERY
def test_the_given_network_stays(variant: str) -> None:
    fake = quantized(variant, "dfsq4")
    before = {name: tensor.clone() for name, tensor in fake.state_dict().items()}
    ours = deployed(variant, "dfsq4")
    assert any(isinstance(layer, FakeQuantConv2d) for layer in fake.modules())
    assert all(torch.equal(before[name], t) for name, t in fake.state_dict().items())
    theirs = {t.data_ptr() for t in fake.state_dict().values()}
    assert not theirs & {t.data_ptr() for t in ours.state_dict().values()}
    assert not any(isinstance(layer, FakeQuantConv2d) for layer in ours.modules())
    for name in ("scale", "colours", "architecture", "hyperparameters", "calibration"):
        assert getattr(ours, name) == getattr(fake, name)


@pytest.mark.parametrize("method", ["dfsq4", "minmax4"])
@pytest.mark.parametrize("variant", ["edsr", "rdn", "carn_m", "idn_y", "imdn"])
@torch.no_grad()
def test_odd_pictures(variant: str, method: str) -> None:
    fake, ours = quantized(variant, method), deployed(variant, method)
    like = picture(fake)
    pictures = {
        "black": torch.zeros_like(like),
        "white": torch.ones_like(like),
        "grey": torch.full_like(like, 0.5),
        "noise": torch.rand(like.shape, generator=torch.Generator().manual_seed(0)),
        "one pixel": like[:, :, :1, :1].clone(),
        "one row": like[:, :, :1],
        "strided": like.transpose(2, 3)[:, :, ::2],
        "channels_last": like.contiguous(memory_format=torch.channels_last),
    }
    for name, x in pictures.items():
        y, expected = ours(x), fake(x)
        assert y.isfinite().all(), name
        cost = psnr(expected, floating(variant)(x))
        assert psnr(y, expected) > min(cost - 3, 90), (name, psnr(y, expected), cost)


@pytest.mark.parametrize("method", ["dfsq4", "minmax8"])
@pytest.mark.parametrize("variant", ["edsr", "rdn", "imdn"])
@torch.no_grad()
def test_batch_of_different_pictures(variant: str, method: str) -> None:
    """Each as if it were alone, but for PyTorch's own layers, whose rounding varies."""
    ours = deployed(variant, method)
    x = torch.cat([picture(ours, seed=seed) for seed in range(3)])
    x[1] *= 0.02
    x[2] = 1 - x[2]
    together, alone = ours(x), torch.cat([ours(x[i : i + 1]) for i in range(3)])
    assert psnr(together, alone) > 60
    assert ours(x[:0]).shape == (0, *together.shape[1:])


@torch.no_grad()
def test_threads_copies_and_states() -> None:
    ours = deployed("edsr", "dfsq4")
    inputs = [picture(ours, seed=seed) for seed in range(6)]
    expected = [ours(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            found = list(pool.map(ours, inputs))
            assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    other = copy.deepcopy(ours)
    assert torch.equal(other(inputs[0]), expected[0])
    for tensor in other.state_dict().values():
        if tensor.is_floating_point():
            tensor.zero_()
    assert torch.equal(ours(inputs[0]), expected[0])
    assert not torch.equal(other(inputs[0]), expected[0])
    other.load_state_dict(ours.state_dict())
    assert torch.equal(other.to("cpu")(inputs[0]), expected[0])


@pytest.mark.parametrize("method", ["dfsq4", "minmax4"])
@torch.no_grad()
def test_compile_and_export(method: str) -> None:
    ours = deployed("edsr", method)
    x = picture(ours)
    expected = ours(x)
    torch.compiler.reset()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), expected)
    exported = torch.export.export(ours, (x,)).module()
    assert torch.equal(exported(x), expected)


def test_within_inference_mode() -> None:
    fake = quantized("edsr", "dfsq4")
    x = picture(fake)
    with torch.inference_mode():
        ours = ptqsr.deploy(fake)
        assert ours.plan.reason is None
        y = ours(x)
    with torch.no_grad():
        assert torch.equal(ours(x), y)


@pytest.mark.parametrize("method", ["dfsq4", "minmax8"])
@torch.no_grad()
def test_autocast_leaves_integers_alone(method: str) -> None:
    fake, ours = quantized("edsr", method), deployed("edsr", method)
    x = picture(fake)
    expected = ours(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert psnr(ours(x), expected) > 30 and psnr(fake(x), expected) > 30


def test_a_hook_keeps_its_module() -> None:
    network = copy.deepcopy(quantized("edsr", "dfsq4"))
    network.body[0].body[1].register_forward_hook(lambda module, inputs, y: y + 1)
    x = picture(network)
    with torch.no_grad():
        expected, y = network(x), ptqsr.deploy(network)(x)
    assert psnr(y, expected) > 30


@pytest.mark.shared
@pytest.mark.parametrize("bits", [4, 8])
def test_authors_networks(shared: Path, bits: int) -> None:
    """DESIGN, section 4: on Set5 within 0.02 dB, or 0.05 dB at 8 bits."""
    network = models.load(shared / "weights" / "carn_m.pth", scale=4)
    crops = shared / "data" / "Set14" / "x4" / "LR"
    pictures = sorted(crops.iterdir())[:2]
    fake = ptqsr.calibrate(network, pictures, Config(bits=bits, selector="optimal"))
    ours = ptqsr.deploy(fake)
    folder = shared / "data" / "Set5"
    found, expected = (ptqsr.evaluate(net, folder).psnr for net in (ours, fake))
    assert abs(found - expected) < (0.02 if bits < 8 else 0.05), (found, expected)
