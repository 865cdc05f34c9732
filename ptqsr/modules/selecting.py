"""The integer convolution whose bits every sample chooses (CADyQ)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ptqsr.modules.deployed import QuantConv2d
from ptqsr.modules.fake import FakeQuantConv2d
from ptqsr.modules.integer import IntegerConv, integer_conv
from ptqsr.quantizers import FEW_BITS, SelectedQuantizer, by_choice


@dataclass(frozen=True, eq=False)
class SelectedConv:
    """A convolution for each candidate of `quantizer`, in their order."""

    quantizer: SelectedQuantizer
    convs: tuple[IntegerConv, ...]


def selected_conv(layer: FakeQuantConv2d) -> SelectedConv:
    """Return what a layer that chooses its bits computes, as integers.

    Raises PtqsrError where no integer convolution does: it begins with the reason.
    """
    chooser = layer.quantizer
    assert isinstance(chooser, SelectedQuantizer)
    weights = (layer.quantized_weight, layer.quantized_weight.coarser(FEW_BITS))
    convs = []
    for number in range(len(chooser.candidates)):
        weight = weights[chooser.few(number)]
        convs.append(integer_conv(FakeQuantConv2d(layer, chooser.candidate(number), weight)))
    return SelectedConv(chooser, tuple(convs))


class SelectedQuantConv2d(nn.Module):
    """Takes [N, C, H, W] as QuantConv2d does, the samples that chose the same bits together.

    `quantizer` chooses and does nothing else; convs[k] encodes and convolves for its candidate k.
    Bits between those that kernels have run as the next ones: 6 as 8.
    """

    def __init__(self, conv: SelectedConv) -> None:
        super().__init__()
        self.quantizer = conv.quantizer
        self.convs = nn.ModuleList(QuantConv2d(one) for one in conv.convs)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        numbers = self.quantizer.choose(input)
        return by_choice(input, numbers, lambda number, some: self.convs[number](some))
