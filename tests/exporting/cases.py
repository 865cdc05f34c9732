"""Exported small networks, made once, and how to run them."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers import photograph
from lowering.cases import floating, picture, psnr
from torch import nn

import ptqsr
from ptqsr import Config, models
from ptqsr.exporting import PICTURE, Export, onnxruntime_session
from ptqsr.models import SRNetwork

STATIC = Config(method="minmax", bits=8, edges=8)
# CARN has what CARN-M has, and fewer kinds of it.
FORMS = {
    "edsr_bn": STATIC,
    "rdn": STATIC,
    "srresnet": STATIC,
    "carn_m": Config(method="minmax", bits=8),
    # With random weights IDN makes much of little: weights of 8 bits would be rounded again.
    "idn": Config(method="minmax", weight_bits=6, act_bits=8),
    "imdn": STATIC,
}
SIZES = ((1, 7, 11), (3, 18, 13))
FOLDER = Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, FOLDER, True)


@cache
def calibrated(variant: str, config: Config) -> SRNetwork:
    return ptqsr.calibrate(floating(variant), [photograph(20, 22, s) for s in range(2)], config)


@cache
def exported(variant: str) -> tuple[SRNetwork, Export]:
    """A variant, and its ONNX file."""
    network = calibrated(variant, FORMS[variant])
    pictures = [photograph(30, 32, seed) for seed in range(3)]
    return network, ptqsr.export(network, FOLDER / f"{variant}.onnx", pictures=pictures)


class Block(nn.Module):
    """A shortcut around two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


@cache
def small(method: str, **options: Any) -> SRNetwork:
    """A network on luma, x2, with two quantized convolutions and a shortcut."""
    torch.manual_seed(3)
    module = nn.Sequential(conv(1, 8), Block(), conv(8, 4), nn.PixelShuffle(2)).eval()
    network = models.wrap(module, scale=2, colours="y")
    pictures = [photograph(20, 22, seed) for seed in range(2)]
    return ptqsr.calibrate(network, pictures, Config(method=method, **options))


def run(path: Any, x: torch.Tensor) -> torch.Tensor:
    session = onnxruntime_session(path, 1)
    return torch.from_numpy(session.run(None, {PICTURE: x.numpy()})[0])


def given(network: SRNetwork, size: tuple[int, int, int]) -> torch.Tensor:
    """Several pictures of a size."""
    batch, height, width = size
    return torch.cat([picture(network, height, width, seed) for seed in range(batch)])


def worst(network: SRNetwork, made: torch.Tensor, x: torch.Tensor) -> float:
    with torch.no_grad():
        return psnr(made, network(x))


def constants(path: Any) -> dict[str, np.ndarray]:
    """The initialisers of an ONNX file."""
    import onnx

    graph = onnx.load(path).graph
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
