"""Quantized networks of every architecture, made once, and how far pictures are apart."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from helpers import photograph
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from upscaling.networks import VARIANTS, given, lively

import ptqsr
from ptqsr import Config, models, ops
from ptqsr.deployment import DeployedNetwork
from ptqsr.lowering import Convolve, Record
from ptqsr.models import SRNetwork
from ptqsr.ops.reference.fused_conv import activate

VARIANTS.setdefault("edsr_bn", ("edsr", dict(blocks=2, width=16, batch_norm=True)))
VARIANTS.setdefault("edsr_scaled", ("edsr", dict(blocks=2, width=16, res_scale=0.1)))
METHODS = {
    "dfsq4": Config(bits=4, selector="optimal"),
    "minmax8": Config(method="minmax", bits=8),
    "minmax4": Config(method="minmax", bits=4),
}


@cache
def floating(variant: str) -> SRNetwork:
    network = lively(variant, 2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            torch.manual_seed(1)
            module.weight.copy_(torch.randn(module.num_features))  # some of them negative
            module.bias.normal_()
            module.running_var.uniform_(0.5, 2)
            module.running_mean.normal_()
        if isinstance(module, nn.PReLU):
            module.weight.fill_(0.2)
    return network


@cache
def quantized(variant: str, method: str) -> SRNetwork:
    pictures = [photograph(20, 22, seed) for seed in range(2)]
    return ptqsr.calibrate(floating(variant), pictures, METHODS[method])


@cache
def deployed(variant: str, method: str, between: torch.dtype | None = None) -> DeployedNetwork:
    return ptqsr.deploy(quantized(variant, method), between=between)


def picture(network: SRNetwork, height: int = 21, width: int = 26, seed: int = 9) -> torch.Tensor:
    return given(network, photograph(height, width, seed))


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape and a.isfinite().all() and b.isfinite().all()
    error = (a.double() - b.double()).pow(2).mean().clamp(min=1e-20)
    return float(-10 * torch.log10(error))


def records(network: DeployedNetwork, kind: type) -> list[Any]:
    return [record for record in network.plan.records if isinstance(record, kind)]


def by_layer(network: DeployedNetwork) -> dict[str, Convolve]:
    return {record.layer: record for record in network.plan.convolutions}


def names(found: list[Record]) -> list[str]:
    return [type(record).__name__ for record in found]


class Unfolded(TorchDispatchMode):
    """Runs subset convolutions without refolding: what the fake-quantized network computes."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not torch.ops.ptqsr.subset_conv2d.default:
            return func(*args, **(kwargs or {}))
        x, points, mean, scale, d, levels, step, bias, *geometry = args[:12]
        activation, slope, residual, last, shuffle, out_dtype, statistics = args[12:]
        assert out_dtype == torch.float32
        parts, start = [], 0
        for part in x:
            span = slice(start, start := start + part.shape[1])
            if part.dtype == torch.float32:
                part = ops.subset_encode(part, points[span], d, mean[:, span], scale[:, span])
            parts.append(part)
        k = torch.cat(parts, 1).float()
        decoded = k * (scale / d)[..., None, None] + mean[..., None, None]
        weight = levels.float() * step.view(-1, 1, 1, 1)
        y = torch.nn.functional.conv2d(decoded, weight, bias, *geometry)
        y = activate(y, activation, slope)
        y = activate(y if residual is None else y + residual, last, None)
        y = torch.nn.functional.pixel_shuffle(y, shuffle)
        empty = [y.new_empty(0) for _ in range(3)]
        return y, *(ops.channel_stats(y) if statistics else empty)


def wrapped(module: nn.Module, method: str, scale: int = 1, **options: Any) -> SRNetwork:
    """A user's module, quantized."""
    network = models.wrap(module, scale=scale)
    pictures = [torch.rand(1, 3, 13, 14, generator=torch.Generator().manual_seed(3))]
    config = Config(**{**METHODS[method].__dict__, **options})
    return ptqsr.calibrate(network, pictures, config)
