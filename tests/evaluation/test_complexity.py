"""BitOPs, storage and FQR."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import ptqsr
from ptqsr import Config, models
from ptqsr.evaluation import Cost, cost
from ptqsr.quantizers import OffsetQuantizer, Offsets

# (architecture, bits, BitOPs, storage) for x4 and 1920x1080: ODM, Table 4.
ODM_TABLE_4 = [
    ("edsr", 32, 527.1e12, 1517.6e3),
    ("edsr", 2, 215.1e12, 411.7e3),
    ("rdn", 32, 6032.9e12, 22271.1e3),
    ("rdn", 2, 236.6e12, 1715.9e3),
    ("srresnet", 32, 588.8e12, 1546.8e3),
    ("srresnet", 2, 276.9e12, 440.9e3),
]
# (architecture, bits, storage): PAMS, Table 3.
PAMS_TABLE_3 = [
    ("edsr", 32, 1.518e6),
    ("edsr", 8, 0.631e6),
    ("edsr", 4, 0.484e6),
    ("rdn", 32, 22.27e6),
    ("rdn", 8, 5.82e6),
    ("rdn", 4, 3.08e6),
]


@cache
def full_precision(name: str) -> models.SRNetwork:
    return models.build(name, scale=4, weights=None)


@cache
def spent(name: str, bits: int, height: int = 1080, width: int = 1920) -> Cost:
    """The cost of a network of the zoo, x4, with its own list of layers at so many bits."""
    network = full_precision(name)
    if bits < 32:
        picture = np.zeros((8, 8, 3), np.uint8)
        network = ptqsr.calibrate(network, picture, Config(method="minmax", bits=bits))
    return cost(network, height=height, width=width)


@pytest.mark.parametrize("name, bits, bitops, storage", ODM_TABLE_4)
def test_odm_table_4(name: str, bits: int, bitops: float, storage: float) -> None:
    assert spent(name, bits).bitops == pytest.approx(bitops, rel=0.005)
    assert spent(name, bits).storage == pytest.approx(storage, rel=0.0005)


@pytest.mark.parametrize("name, bits, storage", PAMS_TABLE_3)
def test_pams_table_3(name: str, bits: int, storage: float) -> None:
    assert spent(name, bits).storage == pytest.approx(storage, rel=0.005)


@pytest.mark.parametrize("bits, printed", [(32, 76.44e9), (8, 4.78e9)])
def test_cadyq_table_5(bits: int, printed: float) -> None:
    """CARN x4 at 1280x720: its 18 3x3 convolutions; the figure has two decimals."""
    found = spent("carn", bits, 720, 1280)
    assert found.listed_bitops == pytest.approx(printed, abs=0.005e9)
    assert sum(layer.listed for layer in found.layers) == 18


# How many convolutions the papers quantize.
QUANTIZED = {
    "edsr": 32,
    "rdn": 16 * 9 + 2,
    "srresnet": 32,
    "carn": 18,
    "carn_m": 6,
    "idn": 24,
    "imdn": 30,
}


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_which_layers_are_quantized(name: str) -> None:
    found = spent(name, 4)
    quantized = [layer for layer in found.layers if layer.quantized]
    assert len(quantized) == QUANTIZED[name] and all(layer.listed for layer in quantized)
    assert found.fqr == 4 and spent(name, 32).fqr == 32


def test_carns_fusions_are_outside_fqr() -> None:
    """The papers leave the 1x1 convolutions out, quantized or not."""
    network = models.build("carn", weights=None, width=8)
    picture = np.zeros((8, 8, 3), np.uint8)
    config = Config(method="minmax", bits=8, include=("*c[123].body.0",))
    quantized = ptqsr.calibrate(network, picture, config)
    layers = cost(quantized).layers
    assert sum(layer.quantized for layer in layers) == 18 + 12
    assert sum(layer.quantized and layer.in_fqr for layer in layers) == 18


def test_by_hand() -> None:
    net = models.wrap(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1, groups=4),
            nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1),
        ),
        scale=2,
    )
    net.quantized_layers = ("module.1",)
    pixels = 6 * 5
    macs = [pixels * 3 * 8 * 9, pixels * 2 * 8 * 9, pixels * 8 * 3 * 16]
    spent = cost(net, height=12, width=10)
    assert [layer.macs for layer in spent.layers] == macs
    assert spent.bitops == 2 * sum(macs) * 1024
    config = Config(method="dfsq", weight_bits=4, act_bits=6, selector="optimal")
    quantized = ptqsr.calibrate(net, torch.rand(3, 6, 6), config)
    spent = cost(quantized, height=12, width=10)
    assert spent.bitops == 2 * (macs[0] * 1024 + macs[1] * 24 + macs[2] * 1024)
    floats = 3 * 8 * 9 + 8 + 8 + 8 * 3 * 16 + 3
    assert spent.storage == floats + 2 * 8 * 9 * 4 / 32
    # Step 32 bits and zero point 16 for each of 8 kernels; 64 points of 8 bits and a flag each.
    extra = 8 * 48 + 8 * (64 * 8 + 1)
    assert spent.storage_bytes == -(-(floats * 32 + 2 * 8 * 9 * 4 + extra) // 8)
    assert spent.fqr == 6


def test_the_network_is_left_alone(tiny: models.SRNetwork) -> None:
    tiny.train()
    cost(tiny)
    assert tiny.training and next(tiny.parameters()).device.type == "cpu"


class Asking(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.mean() < 2 else x


def test_a_network_that_does_not_run_without_values(caplog: pytest.LogCaptureFixture) -> None:
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(4, 3, 2, 2))
    network, same = (models.wrap(kind(*layers)) for kind in (Asking, nn.Sequential))
    found, expected = (cost(net, height=96, width=1280) for net in (network, same))
    assert found == expected and found.macs == 48 * 640 * (3 * 9 * 4 + 4 * 4 * 3)
    assert "Asking: multiply-accumulates are those of 64x48 pixels by area" in caplog.text
    assert "Sequential" not in caplog.text


def test_offsets_count_in_storage(tiny: models.SRNetwork) -> None:
    """ODM, Table 5: 4 bits for each channel's shift and gain."""
    quantized = ptqsr.calibrate(tiny, torch.rand(3, 12, 12), Config(method="minmax", bits=4))
    before = cost(quantized)
    layer = quantized.get_submodule("body.0.body.0")
    plain, offsets = layer.quantizer, Offsets.from_float(torch.rand(16))
    layer.quantizer = OffsetQuantizer(plain.step, plain.lowest, bits=4, shift=offsets, gain=offsets)
    after = cost(quantized)
    assert after.storage - before.storage == 2 * 16 * 4 / 32
    # And a step for each, in float32.
    assert after.storage_bytes - before.storage_bytes == 2 * (16 * 4 + 32) // 8
    assert after.bitops == before.bitops
