"""The drop-in integer convolution: float in, float out, anywhere in a network."""

from __future__ import annotations

import torch
from torch import nn

from ptqsr import ops
from ptqsr.errors import PtqsrError
from ptqsr.modules.fake import FakeQuantConv2d
from ptqsr.modules.integer import (
    IntegerConv,
    SelectedCodes,
    SubsetCodes,
    integer_conv,
    levels_tensor,
)
from ptqsr.quantizers import displaced


class QuantConv2d(nn.Module):
    """Encodes its input, convolves integers and gives floats: what FakeQuantConv2d simulates.

    Maps float32 or float16 [N, C, H, W] to the same of [N, O, H', W'] in channels_last; bfloat16 by
    way of float32.
    """

    levels: torch.Tensor
    step: torch.Tensor
    bias: torch.Tensor | None
    points: torch.Tensor
    nonnegative: torch.Tensor
    in_step: torch.Tensor
    in_lowest: torch.Tensor
    in_levels: torch.Tensor | None
    in_shift: torch.Tensor | None
    in_gain: torch.Tensor | None

    def __init__(self, conv: IntegerConv) -> None:
        super().__init__()
        codes = conv.codes
        if isinstance(codes, SelectedCodes):
            raise PtqsrError("it chooses its bits sample by sample; deploy the whole network")
        self.kind, self.bits, self.weight_bits = codes.kind, codes.bits, conv.weight_bits
        self.register_buffer("levels", conv.levels)
        self.register_buffer("step", conv.step)
        self.register_buffer("bias", conv.bias)
        self.geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        if isinstance(codes, SubsetCodes):
            self.denominator = codes.denominator
            self.register_buffer("points", codes.points)
            self.register_buffer("nonnegative", codes.nonnegative)
        else:
            self.register_buffer("in_step", codes.step)
            self.register_buffer("in_lowest", codes.lowest)
            self.register_buffer("in_levels", levels_tensor(codes))
            self.register_buffer("in_shift", codes.shift)
            self.register_buffer("in_gain", codes.gain)

    @classmethod
    def from_fake(cls, layer: FakeQuantConv2d) -> QuantConv2d:
        """Return the layer in integers, with memory of its own.

        Raises PtqsrError where there is no such layer: where the layer is not fake-quantized, the
        universal set does not fit int8, or the padding is not zero.
        """
        if not isinstance(layer, FakeQuantConv2d):
            raise PtqsrError(
                f"{type(layer).__name__} is not quantized; take a layer of a calibrated network"
            )
        try:
            made = cls(integer_conv(layer))
        except PtqsrError as reason:
            raise PtqsrError(f"cannot be deployed: {reason}") from None
        for name, tensor in made.named_buffers():
            setattr(made, name, tensor.clone())
        return made.train(layer.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.dtype == torch.bfloat16:
            return self.forward(input.float()).to(torch.bfloat16)
        if self.kind == "uniform":
            return ops.uniform_conv2d(
                [displaced(input, self.in_shift, self.in_gain)], self.in_step, self.in_lowest,
                self.bits, self.levels, self.step, self.bias, *self.geometry,
                out_dtype=input.dtype, in_levels=self.in_levels,
            )  # fmt: skip
        mean, scale = ops.normalisation(*ops.channel_stats(input), self.nonnegative)
        return ops.subset_conv2d(
            [input], self.points, mean, scale, self.denominator,
            self.levels, self.step, self.bias, *self.geometry, out_dtype=input.dtype,
        )[0]  # fmt: skip

    def extra_repr(self) -> str:
        shape, groups = tuple(self.levels.shape), self.geometry[-1]
        return f"{shape}, groups={groups}, {self.kind}, {self.bits} bits, {self.weight_bits} weight"
