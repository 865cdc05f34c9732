"""Integer convolutions in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ptqsr.ops.schema.checks import empty
from ptqsr.ops.schema.conv import check_int_conv, check_refold, check_shift_add, index_bits
from ptqsr.ops.schema.library import library


def exact_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    """Return the convolution of integers in float64, which holds every sum exactly."""
    return F.conv2d(x.double(), weight.double(), None, stride, padding, dilation, groups)


def int_conv2d(
    k: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    shape = check_int_conv(k, weight, stride, padding, dilation, groups)
    return empty(k, shape, torch.int32).copy_(
        exact_conv(k, weight, stride, padding, dilation, groups)
    )


def refold_weights(
    levels: torch.Tensor, step: torch.Tensor, scale: torch.Tensor, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    check_refold(levels, step, scale, groups)
    w = levels.to(torch.float32) * step.view(-1, 1, 1, 1)
    m = w * kernel_inputs(scale, levels.shape[0], groups)[..., None, None]
    largest = m.abs().amax((2, 3, 4)) if m.numel() else scale.new_zeros(m.shape[:2])
    # A tensor, not a number: PyTorch multiplies by the reciprocal instead, which rounds twice.
    out_scale = largest / torch.full_like(largest, 127)
    sound = (out_scale > 0)[..., None, None, None]
    folded = torch.round(m / out_scale[..., None, None, None]).clamp(-127, 127)
    return torch.where(sound, folded, torch.zeros_like(m)).to(torch.int8), out_scale


def kernel_inputs(values: torch.Tensor, out_channels: int, groups: int) -> torch.Tensor:
    """Return [N, O, C/g], what every kernel reads of values [N, C]."""
    n, channels = values.shape
    by_group = values.view(n, groups, 1, channels // groups)
    shape = (n, groups, out_channels // groups, channels // groups)
    return by_group.expand(shape).reshape(n, out_channels, channels // groups)


def shift_add_conv2d(
    codes: torch.Tensor,
    shifts: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    shape = check_shift_add(codes, shifts, weight, stride, padding, dilation, groups)
    words, elements = shifts.shape
    bits = index_bits(elements)
    negative = ((codes >> (words * bits)) & 1).bool()
    acc = torch.zeros(shape, dtype=torch.int64, device=codes.device)
    for word in range(words):
        index = (codes >> (word * bits)) & ((1 << bits) - 1)
        for element, exponent in enumerate(shifts[word].tolist()):
            if exponent < 0:
                continue  # the element 0
            # Adds or subtracts the shifted weight wherever the word has this element.
            chosen = (index == element).to(torch.int8)
            signed = torch.where(negative, -chosen, chosen)
            shifted = weight.to(torch.int64) << exponent
            acc += exact_conv(signed, shifted, stride, padding, dilation, groups).to(torch.int64)
    return empty(codes, shape, torch.int32).copy_(acc)


# Calls, not decorators: those would leave None in place of the functions.
torch.library.register_kernel("ptqsr::int_conv2d", None, int_conv2d, lib=library)
torch.library.register_kernel("ptqsr::refold_weights", None, refold_weights, lib=library)
torch.library.register_kernel("ptqsr::shift_add_conv2d", None, shift_add_conv2d, lib=library)
