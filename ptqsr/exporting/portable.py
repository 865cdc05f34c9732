"""A network as others can run it: a copy without ptqsr's own operations."""

from __future__ import annotations

import copy
from typing import TypeGuard

import torch
from torch import nn

from ptqsr.deployment import DeployedNetwork
from ptqsr.errors import PtqsrError
from ptqsr.exporting.layers import PlainBicubic, PlainConv, PlainFit, PlainShift
from ptqsr.exporting.standard import LinearNodes, PlainSubset, PlainUniform
from ptqsr.models import PatchWise, SRNetwork, check_network
from ptqsr.models.fitting import Fit
from ptqsr.models.layers import BicubicUpsample, MeanShift
from ptqsr.modules import FakeQuantConv2d, place, placed, replace
from ptqsr.quantizers import (
    ActivationQuantizer,
    QuantizedWeight,
    SubsetQuantizer,
    UniformQuantizer,
    choosers,
)

INT8 = 127
# So large a code times uint8, twice, fits the 16 bits in which CPUs without VNNI add products up.
FEW_LEVELS = 64


def check_exportable(network: SRNetwork) -> None:
    """Raise PtqsrError for a network that has no exported form, with the reason and the mend."""
    check_network(network)
    if isinstance(network, DeployedNetwork):
        raise PtqsrError("the network is deployed; export the calibrated one")
    if isinstance(network, PatchWise):
        raise PtqsrError("the network runs by patches; export the one that it runs")
    if chosen := list(choosers(network)):
        raise PtqsrError(
            f"{len(chosen)} layers, as {chosen[0]}, choose their bits anew for every picture "
            "(CADyQ), but exported convolutions have one scale; run the network by ptqsr, --deploy"
        )


def portable(network: SRNetwork, *, onnx: bool) -> nn.Module:
    """Return a copy on the CPU that computes the same with standard operations alone.

    onnx: it is for an ONNX file, where static layers have symmetric weights, and does not run.
    """
    copied = copy.deepcopy(network).to("cpu").eval().requires_grad_(False)
    quantizers: dict[nn.Module, nn.Module] = {
        module: _quantizer(module, onnx)
        for module in copied.modules()
        if isinstance(module, ActivationQuantizer)
    }
    swaps = dict(quantizers)
    for name, module in copied.named_modules():
        if isinstance(module, FakeQuantConv2d):
            quantizer = quantizers[module.quantizer]
            weight = module.quantized_weight
            triple = symmetric(weight) if isinstance(quantizer, LinearNodes) else as_stored(weight)
            swaps[module] = PlainConv(module, quantizer, triple, name if onnx else None)
        elif isinstance(module, MeanShift):
            swaps[module] = PlainShift(module)
        elif isinstance(module, BicubicUpsample):
            swaps[module] = PlainBicubic(module)
        elif isinstance(module, Fit):
            swaps[module] = PlainFit(module)
    for name, where, quantizer in list(placed(copied)):
        layer = swaps.get(copied.get_submodule(name))
        if layer is not None:  # hooks stay with the layer that goes
            place(layer, where, quantizers[quantizer])
    replace(copied, swaps)
    return copied


def _quantizer(quantizer: ActivationQuantizer, onnx: bool) -> nn.Module:
    if isinstance(quantizer, UniformQuantizer):
        return LinearNodes(quantizer) if onnx else PlainUniform(quantizer)
    subsets = [part for part in quantizer.parts if isinstance(part, SubsetQuantizer)]
    if not subsets:
        raise PtqsrError(f"a quantizer of kind {quantizer.kind} has no exported form")
    return PlainSubset(subsets, onnx=onnx)


def as_stored(weight: QuantizedWeight) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (codes int8, step float32 [O], zero int8 [O]): w^ = (codes - zero) * step, exactly."""
    return weight.codes, weight.step.detach(), (-weight.zero_point).to(torch.int8)


def symmetric(weight: QuantizedWeight) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the same with zero = 0, which is what integer convolutions elsewhere take.

    Exact where levels lie from -127 to 127. Kernels that reach farther, as of 8 bits most do, are
    rounded once more, over -max |w| to max |w|. Those of few levels are multiplied by a whole
    number, since biases are counted in the products' unit.
    """
    levels, step = weight.levels(), weight.step.detach()
    farthest = levels.abs().amax((1, 2, 3)).clamp(min=1)
    finer = (FEW_LEVELS / farthest).floor().clamp(min=1)
    factor = torch.where(farthest > INT8, INT8 / farthest, finer)
    codes = torch.round(levels * factor.view(-1, 1, 1, 1)).to(torch.int8)
    return codes, step / factor, torch.zeros(len(step), dtype=torch.int8)


def is_static(module: nn.Module) -> TypeGuard[FakeQuantConv2d]:
    """Return whether a module is a quantized convolution with fixed scales."""
    return isinstance(module, FakeQuantConv2d) and isinstance(module.quantizer, UniformQuantizer)


def rounded_again(network: SRNetwork) -> tuple[int, int]:
    """Return how many kernels of static layers `symmetric` rounds, and how many there are."""
    layers = [module for module in network.modules() if is_static(module)]
    reach = [layer.quantized_weight.levels().abs().amax((1, 2, 3)) for layer in layers]
    return sum(int((each > INT8).sum()) for each in reach), sum(map(len, reach))
