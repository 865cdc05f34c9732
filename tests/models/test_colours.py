"""White, black and grey stay what they are, in every network, float and quantized."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import photograph
from torch import nn

import ptqsr
from ptqsr import Config, models
from ptqsr.images import cut, downscale, sample_photographs, to_tensor, upscale
from ptqsr.upscaling import Planner, run

pytestmark = pytest.mark.usefixtures("one_thread")

RAMP = np.linspace(0, 255, 24).round().astype(np.uint8)[None, :, None].repeat(24, 0).repeat(3, 2)
# All of one size, which is planned once.
PICTURES = {
    "white": np.full_like(RAMP, 255),
    "black": np.zeros_like(RAMP),
    "grey": np.full_like(RAMP, 128),
    "ramp": RAMP,
    "ramp down": np.ascontiguousarray(RAMP.swapaxes(0, 1)[::-1]),
}


def deviations(network: models.SRNetwork, enlarge: Callable = upscale) -> tuple[float, float]:
    """The largest mean difference, over the pictures, between colours and to the picture."""
    colour, error = 0.0, 0.0
    plan = Planner(network).plan(*RAMP.shape[:2])
    for picture in PICTURES.values():
        out = run(network, picture, plan).astype(int)
        colour = max(colour, float((out.max(2) - out.min(2)).mean()))
        error = max(error, float(np.abs(out - enlarge(picture, network.scale)).mean()))
    return colour, error


def calibrated(network: models.SRNetwork, method: str, bits: int) -> models.SRNetwork:
    crops, _ = cut(sample_photographs(), size=48 * network.scale, count=4, held_out=0, seed=0)
    inputs = [downscale(crop, network.scale)[0] for crop in crops]
    return ptqsr.calibrate(network, inputs, Config(method=method, bits=bits, selector="optimal"))


def check_trained(network: models.SRNetwork) -> None:
    colour, error = deviations(network)
    assert colour < 1 and error < 1
    colour, error = deviations(calibrated(network, "dfsq", 8))
    assert colour < 1 and error < 1
    colour, error = deviations(calibrated(network, "dfsq", 4))
    assert colour < 3 and error < 3  # grey levels; the mean of the worst picture


def test_bundled_edsr() -> None:
    check_trained(models.build("edsr"))


@pytest.mark.shared
@pytest.mark.parametrize(
    "file, scale",
    [("idn_x4.npz", 4), ("carn_m.pth", 3), ("IMDN_x2.pth", 2)],
)
def test_authors_weights(shared: Path, file: str, scale: int) -> None:
    check_trained(models.load(shared / "weights" / file, scale=scale))


# --- architectures without trained weights: weights that enlarge by nearest neighbour ---


def passing(conv: nn.Conv2d, scale: int = 1) -> None:
    """Make a convolution hand its first three channels on, before a pixel shuffle of `scale`."""
    conv.weight.zero_()
    if conv.bias is not None:
        conv.bias.zero_()
    centre = conv.kernel_size[0] // 2
    for plane in range(3 * scale**2):
        conv.weight[plane, plane // scale**2, centre, centre] = 1


def nearest(name: str, scale: int) -> models.SRNetwork:
    """A small network whose body, with random weights, adds a few grey levels at most."""
    sizes: dict[str, dict[str, object]] = {
        "edsr": dict(blocks=2, width=16),
        "rdn": dict(blocks=2, layers=2, growth=16, width=16),
        "srresnet": dict(blocks=2, width=16),
        "carn": dict(width=16, groups=1),
        "carn_m": dict(width=16),
        "idn": dict(width=16),
        "imdn": dict(blocks=2, width=16),
    }
    torch.manual_seed(0)
    net = models.build(name, scale=scale, weights=None, **sizes[name])
    steps = [2, 2] if scale == 4 else [scale]
    with torch.no_grad():
        if name == "edsr":
            entry, body = net.head[0], net.body[-1]
            enlarging, leaving = net.tail[0], net.tail[1]
        elif name == "rdn":
            entry, body = net.SFENet1, net.GFF[1]
            enlarging, leaving = net.UPNet, net.UPNet[-1]
        elif name == "srresnet":
            entry, body = net.conv_input, net.bn_mid
            enlarging, leaving = net.upscale, net.conv_output
        elif name in ("carn", "carn_m"):
            entry, body = net.entry, net.c3.body[0]
            enlarging, leaving = net.upsample[f"up{scale}"].body, net.exit
        elif name == "imdn":
            entry, body, enlarging, leaving = net.fea_conv, net.LR_conv, None, None
        else:
            net.upsample.weight.mul_(0.01)  # beside its own bicubic
            net.upsample.bias.zero_()
            return net
        passing(entry)
        small = 0.01
        body.weight.mul_(small)
        body.bias.mul_(small)
        if leaving is None:
            passing(net.upsampler[0], scale)
            return net
        if name in ("carn", "carn_m"):
            # Its mean is subtracted and ReLUs follow: one more on the way, one less at the end.
            entry.bias += 1
            passing_too = torch.zeros_like(body.weight)
            for plane in range(3):
                passing_too[plane, plane] = 1
            body.weight += passing_too
        convs = [m for m in enlarging if isinstance(m, nn.Conv2d) and m is not leaving]
        for conv, step in zip(convs, steps, strict=True):
            passing(conv, step)
        passing(leaving)
        if name in ("carn", "carn_m"):
            leaving.bias -= 1
    return net


def repeated(picture: np.ndarray, scale: int) -> np.ndarray:
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


@pytest.mark.parametrize("scale", [3, 4])
@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_every_architecture(name: str, scale: int) -> None:
    network = nearest(name, scale)
    enlarge = upscale if name == "idn" else repeated
    inputs = [photograph(24, 24, seed) for seed in range(2)]
    networks = {"float": network}
    for method in ("dfsq", "minmax"):
        config = Config(method=method, bits=4, selector="optimal")
        networks[method] = ptqsr.calibrate(network, inputs, config)
    for net in networks.values():
        colour, error = deviations(net, enlarge)
        assert colour < 3 and error < 3
    # The body does take part, quantized or not.
    x = to_tensor(inputs[0])
    with torch.no_grad():
        full, *others = [net(x) for net in networks.values()]
    assert all((full - other).abs().max() > 1e-6 for other in others)
