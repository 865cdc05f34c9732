"""Sums over what a layer is given and over what it should give, from which its weights follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr.modules import FakeQuantConv2d

WINDOWS = 64 << 20  # bytes of them that are made at once


class _Apart(NamedTuple):
    """Rows, float32 [groups, n, L], apart from their means: what is common to all is not squared.

    They are `around` + `centre`; `rest`: the sums of `around`, nearly 0. Both float64
    [groups, n, 1].
    """

    around: torch.Tensor
    centre: torch.Tensor
    rest: torch.Tensor

    @classmethod
    def of(cls, rows: torch.Tensor, groups: int) -> _Apart:
        """Take rows [n, L], which are overwritten."""
        rows = rows.unflatten(0, (groups, -1))
        centre = rows.mean(2, keepdim=True)
        around = rows.sub_(centre)
        return cls(around, centre.double(), around.sum(2, keepdim=True).double())

    def sums(self) -> torch.Tensor:
        """Return the sums of the rows, float64 [groups, n]."""
        return (self.centre * self.around.shape[2] + self.rest)[..., 0]

    def times(self, other: _Apart) -> torch.Tensor:
        """Return the sums of the products with another's rows, float64 [groups, n, n of other]."""
        whole = self.centre * self.around.shape[2] + self.rest
        # What is left, of one strip, float32 is enough for.
        products = (self.around @ other.around.mT).double()
        return products + whole @ other.centre.mT + self.centre @ other.rest.mT


class Moments:
    """Sums over windows of a layer's quantized input x and of its float output y, by group.

    x, y, x x^T, and y x^T; a window's x is [n], its y [O / groups].
    """

    def __init__(self, layer: FakeQuantConv2d) -> None:
        self.groups, count = layer.groups, layer.weight[0].numel()
        outputs = layer.out_channels // self.groups
        self.products = torch.zeros(self.groups, count, count, dtype=torch.float64)
        self.crossed = torch.zeros(self.groups, outputs, count, dtype=torch.float64)
        self.sums = torch.zeros(self.groups, count, dtype=torch.float64)
        self.meant = torch.zeros(self.groups, outputs, dtype=torch.float64)
        self.windows = 0

    def take(self, layer: FakeQuantConv2d, given: torch.Tensor, meant: torch.Tensor) -> None:
        for windows, outputs in strips(layer, layer.quantizer(given).cpu(), meant.cpu()):
            x, y = _Apart.of(windows, self.groups), _Apart.of(outputs, self.groups)
            self.products += x.times(x)
            self.crossed += y.times(x)
            self.sums += x.sums()
            self.meant += y.sums()
            self.windows += windows.shape[1]

    def squares(
        self, group: int, original: nn.Conv2d, corrected: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a group's x x^T and y x^T, of which the weights have to take care.

        Where the bias is `corrected` in the end, what all windows have in common is its affair;
        else y is what the weights alone should give.
        """
        sums, meant = self.sums[group], self.meant[group]
        if corrected:
            mean = sums / self.windows
            hessian = self.products[group] - torch.outer(sums, mean)
            return hessian, self.crossed[group] - torch.outer(meant, mean)
        crossed = self.crossed[group]
        if original.bias is not None:
            bias = original.bias.detach().cpu().double().chunk(self.groups)[group]
            crossed = crossed - torch.outer(bias, sums)
        return self.products[group], crossed

    def energy(self, group: int) -> torch.Tensor:
        """Return a group's mean square of x, times the number of windows."""
        return self.products[group].diagonal().mean()

    def bias(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the bias, float32 [O], that gives every output channel its float mean."""
        kernels = weight.cpu().to(torch.float64).flatten(1).chunk(self.groups)
        missing = [
            (y - k @ x) / self.windows
            for k, x, y in zip(kernels, self.sums, self.meant, strict=True)
        ]
        return torch.cat(missing).to(weight.device, torch.float32)


def strips(
    layer: nn.Conv2d, x: torch.Tensor, y: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield windows [n, L] of a layer's input and the outputs [O, L] that belong to them.

    Sample by sample, by so many rows of windows as WINDOWS allows, one at least.
    """
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode)
    stride, reach = layer.stride[0], layer.dilation[0] * (layer.kernel_size[0] - 1) + 1
    row = 4 * x.shape[1] * layer.kernel_size[0] * layer.kernel_size[1] * y.shape[3]
    height = max(1, WINDOWS // row)
    for picture, made in zip(padded, y, strict=True):
        for top in range(0, y.shape[2], height):
            outputs = made[:, top : top + height].flatten(1).clone()
            rows = slice(top * stride, (top + outputs.shape[1] // y.shape[3] - 1) * stride + reach)
            strip = picture[None, :, rows]
            yield F.unfold(strip, layer.kernel_size, layer.dilation, 0, layer.stride)[0], outputs
