"""The fake-quantized convolution: the definition of the right answer, in floating point."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ptqsr.quantizers import (
    FEW_BITS,
    ActivationQuantizer,
    QuantizedWeight,
    SelectedQuantizer,
    by_choice,
)


class FakeQuantConv2d(nn.Conv2d):
    """A convolution of fake-quantized input with fake-quantized weights, float32 in and out.

    `weight_codes`, `weight_step` and `weight_zero_point` are what QuantizedWeight says; `weight`
    is computed from them and not saved. Convolutions that read one tensor share `quantizer`.
    """

    weight_codes: torch.Tensor
    weight_step: torch.Tensor
    weight_zero_point: torch.Tensor

    def __init__(
        self, conv: nn.Conv2d, quantizer: ActivationQuantizer, weight: QuantizedWeight
    ) -> None:
        # On "meta", the float weights that are thrown away at once cost nothing.
        super().__init__(**geometry(conv), device="meta")
        # A copy: biases that layers share in the float network are corrected for each alone.
        if conv.bias is not None:
            self.bias = nn.Parameter(conv.bias.detach().clone(), conv.bias.requires_grad)
        del self.weight
        self.weight_bits = weight.bits
        self.register_buffer("weight_codes", weight.codes)
        self.register_buffer("weight_step", weight.step)
        self.register_buffer("weight_zero_point", weight.zero_point)
        self.register_buffer("weight", weight.dequantize(), persistent=False)
        self.quantizer = quantizer
        self.register_load_state_dict_post_hook(_refresh)
        self.train(conv.training)

    @property
    def act_bits(self) -> int:
        return self.quantizer.bits

    @property
    def quantized_weight(self) -> QuantizedWeight:
        codes, step, zero_point = self.weight_codes, self.weight_step, self.weight_zero_point
        return QuantizedWeight(codes, step, zero_point, self.weight_bits)

    @property
    def lowest_level(self) -> torch.Tensor:
        """Every kernel's lowest level, int32 [O]; the others are the 2^bits - 1 after it."""
        return self.weight_zero_point.to(torch.int32) - (1 << (self.weight_bits - 1))

    def set_weight(self, weight: QuantizedWeight) -> None:
        """Take other integers of the same shape and bits."""
        self.weight_codes.copy_(weight.codes)
        self.weight_step.copy_(weight.step)
        self.weight_zero_point.copy_(weight.zero_point)
        self.weight = self.quantized_weight.dequantize()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = self.quantizer(input)
        chooser = self.quantizer
        if not isinstance(chooser, SelectedQuantizer) or not chooser.weights_follow:
            return self._conv_forward(x, self.weight, self.bias)
        weights = (self.weight, self.quantized_weight.coarser(FEW_BITS).dequantize())
        few = [chooser.few(number) for number in chooser.numbers]
        return by_choice(x, few, lambda n, some: self._conv_forward(some, weights[n], self.bias))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}"


def _refresh(layer: nn.Module, _: object) -> None:
    """Compute `weight` again from the codes that were loaded."""
    assert isinstance(layer, FakeQuantConv2d)
    layer.weight = layer.quantized_weight.dequantize()


def geometry(conv: nn.Conv2d) -> dict[str, Any]:
    """Return the constructor's arguments of a convolution."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    arguments = {name: getattr(conv, name) for name in (*names, "groups", "padding_mode")}
    return {**arguments, "bias": conv.bias is not None}
