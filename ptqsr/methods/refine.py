"""dfsq+: every layer's weights rounded for what it multiplies, layer by layer.

A layer's input is that of the network quantized so far, so that it makes up for what those before
it lost on average (its bias), too. Closed forms only: nothing is trained, the storage stays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr.models import SRNetwork, observing
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import QuantizedWeight, best_grid, compensated_levels


class _Enough(Exception):
    """All has been seen: the rest of the network need not run."""


@torch.inference_mode(False)
@torch.no_grad()
def refine(
    network: SRNetwork,
    model: SRNetwork,
    names: Sequence[str],
    inputs: Iterable[torch.Tensor],
    progress: Callable[[int, int], None],
) -> None:
    """Round the weights of a fake-quantized network's layers again, in place.

    `model`: the same network in floating point; `names`: of the layers.
    """
    calls, wanted = _outputs(model, names, inputs)
    # In the order in which they run.
    for done, name in enumerate(calls):
        progress(done, len(calls))
        layer = network.get_submodule(name)
        assert isinstance(layer, FakeQuantConv2d)
        original = model.get_submodule(name)
        assert isinstance(original, nn.Conv2d)
        moments = _Moments(layer)
        for x in inputs:
            _until(network, name, calls[name], x, partial(moments.take, layer))
        weight = moments.rounded(original.weight, layer.weight_bits)
        layer.set_weight(weight)
        if layer.bias is not None:
            layer.bias.copy_(wanted[name] - moments.mean_output(weight.dequantize()))
    progress(len(calls), len(calls))


def _outputs(
    model: SRNetwork, names: Sequence[str], inputs: Iterable[torch.Tensor]
) -> tuple[dict[str, int], dict[str, torch.Tensor]]:
    """Return how often each layer runs for one picture, in their order, and its mean output [O]."""
    calls: dict[str, int] = {}
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    pictures = 0

    def watch(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def take(layer: nn.Module, _: object, y: torch.Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            total = y.sum((0, 2, 3), dtype=torch.float64)
            sums[name] = sums[name] + total if name in sums else total
            counts[name] = counts.get(name, 0) + y.shape[0] * y.shape[2] * y.shape[3]

        return take

    handles = [model.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    try:
        for x in inputs:
            model(x)
            pictures += 1
    finally:
        for handle in handles:
            handle.remove()
    means = {name: (sums[name] / counts[name]).to(torch.float32) for name in sums}
    return {name: count // pictures for name, count in calls.items()}, means


def _until(
    network: SRNetwork,
    name: str,
    calls: int,
    x: torch.Tensor,
    take: Callable[[torch.Tensor], None],
) -> None:
    """Run the network until a layer has got all of its inputs; show them."""
    seen = 0

    def see(_: str, given: torch.Tensor) -> None:
        nonlocal seen
        take(given)
        seen += 1
        if seen == calls:
            raise _Enough

    layers: Mapping[str, nn.Module] = {name: network.get_submodule(name)}
    with observing(layers, see), contextlib.suppress(_Enough):
        network(x)


class _Moments:
    """Sums of what a layer multiplies, by group: of windows x of its input, x and x x^T."""

    def __init__(self, layer: FakeQuantConv2d) -> None:
        self.groups, count = layer.groups, layer.weight[0].numel()
        self.products = torch.zeros(self.groups, count, count, dtype=torch.float64)
        self.sums = torch.zeros(self.groups, count, dtype=torch.float64)
        self.windows = 0

    def take(self, layer: FakeQuantConv2d, given: torch.Tensor) -> None:
        x = _padded(layer, layer.quantizer(given)).cpu()
        rows = F.unfold(x, layer.kernel_size, layer.dilation, 0, layer.stride)
        n, _, windows = rows.shape
        rows = rows.view(n, self.groups, -1, windows).to(torch.float64)
        with _one_thread():
            for group, total in enumerate(self.products):
                for of_picture in rows[:, group]:
                    total.addmm_(of_picture, of_picture.t())
        self.sums += rows.sum((0, 3))
        self.windows += n * windows

    def rounded(self, weight: torch.Tensor, bits: int) -> QuantizedWeight:
        """Return a float weight [O, I / groups, K, K] as integers."""
        parts = []
        flat = weight.detach().cpu().to(torch.float32).flatten(1)
        for group, kernels in enumerate(flat.chunk(self.groups)):
            mean = self.sums[group] / self.windows
            # What is the same in all windows is the bias' affair.
            hessian = self.products[group] - torch.outer(mean, mean) * self.windows
            importance = hessian.diagonal().clamp(min=0).to(torch.float32)
            step, lowest = best_grid(kernels, bits, importance)
            with _one_thread():
                levels = compensated_levels(kernels, hessian, step, lowest, bits)
            parts.append((levels, step, lowest))
        levels, step, lowest = (torch.cat(columns) for columns in zip(*parts, strict=True))
        found = QuantizedWeight.from_levels(levels.view(weight.shape), step, lowest, bits)
        return found.to(weight.device)

    def mean_output(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the mean of every output channel, float32 [O], without bias."""
        kernels = weight.cpu().to(torch.float64).flatten(1).chunk(self.groups)
        means = [k @ (s / self.windows) for k, s in zip(kernels, self.sums, strict=True)]
        return torch.cat(means).to(torch.float32).to(weight.device)


def _padded(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Return the input with what the layer pads it with."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, layer._reversed_padding_repeated_twice, mode)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of products depend on how threads share them, and what is rounded may depend on that."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
