"""BitOPs, storage and FQR."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import ptqsr
from ptqsr import Config, models
from ptqsr.evaluation import cost


def test_odm_table_4() -> None:
    """EDSR x4, 1920x1080: 527.1T and 1517.6K in float, 215.1T and 411.7K at 2 bits."""
    network = models.build("edsr", scale=4, weights=None)
    spent = cost(network)
    assert spent.bitops == pytest.approx(527.1e12, rel=0.005)
    assert spent.storage == pytest.approx(1517.6e3, rel=0.0001)
    assert spent.fqr == 32
    picture = np.zeros((8, 8, 3), np.uint8)
    spent = cost(ptqsr.calibrate(network, picture, Config(method="minmax", bits=2)))
    assert spent.bitops == pytest.approx(215.1e12, rel=0.005)
    assert spent.storage == pytest.approx(411.7e3, rel=0.0005)
    assert spent.fqr == 2 and sum(layer.quantized for layer in spent.layers) == 32


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
    config = Config(method="dfsq", weight_bits=4, act_bits=6)
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
