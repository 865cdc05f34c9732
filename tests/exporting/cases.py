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
import torch.nn.functional as F
from helpers import photograph
from lowering.cases import floating, picture, psnr
from torch import nn

import ptqsr
from ptqsr import Config, models
from ptqsr.exporting import PICTURE, Export, onnxruntime_session
from ptqsr.models import SRNetwork
from ptqsr.models.layers import BicubicUpsample

STATIC = Config(method="minmax", bits=8, edges=8)
# "mixture" is ours: what CARN-M, IDN, IMDN and RDN are made of. Tracing them takes long.
VARIANTS = ("edsr_bn", "srresnet", "mixture")
SIZES = ((1, 7, 11), (3, 18, 13))
FOLDER = Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, FOLDER, True)


def conv(inputs: int, outputs: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


class Mixture(nn.Module):
    """On luma, x2: groups, recursion, split, concatenation, linear, transposed, bicubic."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.again = conv(1, 8), conv(8, 8, groups=2)
        self.fuse = nn.Linear(20, 8)
        self.tail = nn.ConvTranspose2d(8, 1, 5, stride=2, padding=2, output_padding=1)
        self.enlarged = BicubicUpsample(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [self.head(x)]
        for _ in range(2):
            found.append(F.leaky_relu(self.again(found[-1]), 0.05))
        kept, _ = found[1].chunk(2, dim=1)
        pixels = torch.cat((found[0], kept, found[2]), 1).permute(0, 2, 3, 1)
        return self.enlarged(x) + self.tail(self.fuse(pixels).permute(0, 3, 1, 2) + found[0])


@cache
def calibrated(variant: str, config: Config) -> SRNetwork:
    network = mixture() if variant == "mixture" else floating(variant)
    return ptqsr.calibrate(network, [photograph(20, 22, s) for s in range(2)], config)


def mixture() -> SRNetwork:
    torch.manual_seed(4)
    network = models.wrap(Mixture().eval(), scale=2, colours="y", multiple_of=4)
    network.quantized_layers = ("module.again", "module.fuse", "module.tail")
    return network


@cache
def exported(variant: str) -> tuple[SRNetwork, Export]:
    """A variant, and its ONNX file."""
    network = calibrated(variant, STATIC)
    pictures = [photograph(30, 32, seed) for seed in range(3)]
    return network, ptqsr.export(network, FOLDER / f"{variant}.onnx", pictures=pictures)


class Block(nn.Module):
    """A shortcut around two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


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
