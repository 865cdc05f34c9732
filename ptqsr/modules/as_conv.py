"""Linear layers and transposed convolutions as convolutions: one kind of layer to quantize."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from ptqsr.modules.surgery import replace


class LinearAsConv(nn.Module):
    """A linear layer, [N, ..., C] -> [N, ..., O], as a 1x1 convolution of [N, C, L, 1]."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        outputs, inputs = linear.weight.shape
        self.conv = _conv(
            linear.weight.detach()[..., None, None], linear.bias, inputs, outputs, 1, 0, 1
        )
        self.in_features, self.out_features = inputs, outputs
        self.train(linear.training)

    @property
    def weight(self) -> torch.Tensor:
        """What networks read that ask a linear layer for its type, or its device: [O, C]."""
        return self.conv.weight[..., 0, 0]

    @property
    def bias(self) -> torch.Tensor | None:
        return self.conv.bias

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = input.flatten(1, -2).transpose(1, 2).unsqueeze(-1)
        y = self.conv(x).squeeze(-1).transpose(1, 2)
        return y.unflatten(1, input.shape[1:-1]).contiguous()


class TransposedAsConv(nn.Module):
    """A transposed convolution of stride s as a convolution of s^2 times the channels, shuffled.

    Output row Y = s q + r sees input row q + a - k, a = (r + p) div s, through row
    (r + p) mod s + s k of the kernel, for every k there is: the rows r of a result are a
    convolution each. Taps that none of them needs are 0.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        stride, groups = layer.stride[0], layer.groups
        rows, columns = (
            _Axis(layer.kernel_size[i], stride, layer.padding[i], layer.output_padding[i])  # type: ignore[arg-type]
            for i in range(2)
        )
        # [C, O/g, K, K] -> [O, C/g, K, K]
        weight = layer.weight.detach().unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        phases = weight.new_zeros(
            len(weight), stride, stride, weight.shape[1], rows.kernel, columns.kernel
        )
        for row, to_row, from_row in rows.taps:
            for column, to_column, from_column in columns.taps:
                phases[:, row, column, :, to_row, to_column] = weight[:, :, from_row, from_column]
        self.conv = _conv(
            phases.flatten(0, 2),
            None if layer.bias is None else layer.bias.detach().repeat_interleave(stride**2),
            layer.in_channels,
            layer.out_channels * stride**2,
            (rows.kernel, columns.kernel),
            (rows.padding, columns.padding),
            groups,
        )
        self.shuffle = nn.PixelShuffle(stride)
        self.kept = (slice(None), slice(None), rows.kept, columns.kept)
        self.whole = rows.kept == columns.kept == slice(0, None)
        self.train(layer.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        y = self.shuffle(self.conv(input))
        return y if self.whole else y[self.kept]


class _Axis:
    """Rows or columns: which taps of which phase are whose, padding, and what is cut off.

    `taps`: (phase, row of the convolution's kernel, row of the transposed one's).
    """

    def __init__(self, kernel: int, stride: int, padding: int, more: int) -> None:
        taps = []
        for phase in range(stride):
            ahead, first = divmod(phase + padding, stride)
            for k, tap in enumerate(range(first, kernel, stride)):
                taps.append((phase, ahead - k, tap))
        low, high = (limit(offset for _, offset, _ in taps) for limit in (min, max))
        self.taps = [(phase, offset - low, tap) for phase, offset, tap in taps]
        self.kernel = high - low + 1
        # The result has `surplus` rows more than `stride` times the input's.
        surplus = kernel - 2 * padding + more - stride
        self.padding = max(-low, high + -(-surplus // stride), 0)
        end = stride * (self.padding - high) - surplus
        self.kept = slice(stride * (self.padding + low), -end if end else None)


def _conv(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    padding: int | tuple[int, int],
    groups: int,
) -> nn.Conv2d:
    made = nn.Conv2d(
        inputs,
        outputs,
        kernel,
        padding=padding,
        groups=groups,
        bias=bias is not None,
        device="meta",
    )
    made.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return made


KINDS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Linear: LinearAsConv,
    nn.ConvTranspose2d: TransposedAsConv,
}


def as_convolutions(network: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Put convolutions in the places of those of the layers that are none, in place.

    Returns every layer's name now.
    """
    swaps: dict[nn.Module, nn.Module] = {}
    found = {}
    for name in names:
        layer = network.get_submodule(name)
        made = next((made for kind, made in KINDS.items() if isinstance(layer, kind)), None)
        if made is not None:
            swaps[layer] = made(layer)
        found[name] = name if made is None else f"{name}.conv"
    replace(network, swaps)
    return found


def convolutions(network: nn.Module, names: Iterable[str]) -> dict[str, nn.Conv2d]:
    """Return convolutions by name."""
    found = {name: network.get_submodule(name) for name in names}
    return {name: layer for name, layer in found.items() if isinstance(layer, nn.Conv2d)}


def owner(network: nn.Module, name: str) -> str:
    """Return the name of the layer that a convolution stands for: its own, unless it was made."""
    parent = name.rpartition(".")[0]
    made = isinstance(network.get_submodule(parent), tuple(KINDS.values()))
    return parent if made else name
