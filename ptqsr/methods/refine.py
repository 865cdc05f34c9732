"""dfsq+: every layer's weights rounded for what it multiplies, layer by layer.

A layer's input is that of the network quantized so far, and what it should give is what it gives in
the float network, so that it makes up for what those before it lost. Closed forms only: nothing is
trained, the storage stays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr.models import SRNetwork, observing
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import QuantizedWeight, best_grid, compensated_levels
from ptqsr.quantizers.uniform import grid

# Of the mean energy of the inputs: holds weights back where inputs tell little.
HELD = 0.003


@dataclass(frozen=True)
class Ingredients:
    """What is done; all of it by default. Left out for ablations.

    `target`: weights for the inputs that the quantized network gives, in place of the float ones,
    by least squares; `ranges`: those that lose least, else [min, max]; `compensation`: rounding
    errors make up for each other, else to nearest; `bias`: the mean output is that of the float
    network.
    """

    target: bool = True
    ranges: bool = True
    compensation: bool = True
    bias: bool = True


class _Enough(Exception):
    """All has been seen: the rest of the network need not run."""


@torch.inference_mode(False)
@torch.no_grad()
def refine(
    network: SRNetwork,
    model: SRNetwork,
    names: Sequence[str],
    inputs: Iterable[torch.Tensor],
    progress: Callable[[int, int], None] = lambda done, total: None,
    ingredients: Ingredients | None = None,
) -> None:
    """Round the weights of a fake-quantized network's layers again, in place.

    `model`: the same network in floating point; `names`: of the layers.
    """
    chosen = ingredients or Ingredients()
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
            given = _inputs(network, name, calls[name], x)
            meant = _inputs(model, name, calls[name], x) if chosen.target else given
            for here, there in zip(given, meant, strict=True):
                moments.take(layer, here, there)
        weight = moments.rounded(original.weight, layer.weight_bits, chosen)
        layer.set_weight(weight)
        if layer.bias is not None and chosen.bias:
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


def _inputs(network: SRNetwork, name: str, calls: int, x: torch.Tensor) -> list[torch.Tensor]:
    """Run the network until a layer has got all of its inputs; return them."""
    seen: list[torch.Tensor] = []

    def see(_: str, given: torch.Tensor) -> None:
        seen.append(given.clone())  # it may be changed in place later
        if len(seen) == calls:
            raise _Enough

    layers: Mapping[str, nn.Module] = {name: network.get_submodule(name)}
    with observing(layers, see), contextlib.suppress(_Enough):
        network(x)
    return seen


class _Moments:
    """Sums over windows of a layer's quantized input x and of its float input y, by group.

    x, y, x x^T, and y x^T.
    """

    def __init__(self, layer: FakeQuantConv2d) -> None:
        self.groups, count = layer.groups, layer.weight[0].numel()
        self.products = torch.zeros(self.groups, count, count, dtype=torch.float64)
        self.crossed = torch.zeros_like(self.products)
        self.sums = torch.zeros(self.groups, count, dtype=torch.float64)
        self.meant = torch.zeros_like(self.sums)
        self.windows = 0

    def take(self, layer: FakeQuantConv2d, given: torch.Tensor, meant: torch.Tensor) -> None:
        x = self._rows(layer, layer.quantizer(given))
        y = self._rows(layer, meant)
        with _one_thread():
            for group in range(self.groups):
                for one, other in zip(x[:, group], y[:, group], strict=True):
                    self.products[group].addmm_(one, one.t())
                    self.crossed[group].addmm_(other, one.t())
        self.sums += x.sum((0, 3))
        self.meant += y.sum((0, 3))
        self.windows += len(x) * x.shape[3]

    def _rows(self, layer: FakeQuantConv2d, x: torch.Tensor) -> torch.Tensor:
        """Return the windows of an input: float64 [N, groups, n, windows]."""
        rows = F.unfold(_padded(layer, x).cpu(), layer.kernel_size, layer.dilation, 0, layer.stride)
        return rows.unflatten(1, (self.groups, -1)).to(torch.float64)

    def rounded(self, weight: torch.Tensor, bits: int, ingredients: Ingredients) -> QuantizedWeight:
        """Return a float weight [O, I / groups, K, K] as integers."""
        parts = []
        flat = weight.detach().cpu().to(torch.float32).flatten(1)
        for group, kernels in enumerate(flat.chunk(self.groups)):
            mean = self.sums[group] / self.windows
            # What is the same in all windows is the bias' affair.
            hessian = self.products[group] - torch.outer(mean, mean) * self.windows
            if ingredients.target:
                kernels = self._target(kernels, group, hessian, mean)
            importance = hessian.diagonal().clamp(min=0).to(torch.float32)
            if ingredients.ranges:
                step, lowest = best_grid(kernels, bits, importance)
            else:
                step, lowest = grid(kernels.amin(1), kernels.amax(1), bits)
            if ingredients.compensation:
                with _one_thread():
                    levels = compensated_levels(kernels, hessian, step, lowest, bits)
            else:
                levels = torch.round(kernels / step[:, None]).to(torch.int32)
            parts.append((levels, step, lowest))
        levels, step, lowest = (torch.cat(columns) for columns in zip(*parts, strict=True))
        found = QuantizedWeight.from_levels(levels.view(weight.shape), step, lowest, bits)
        return found.to(weight.device)

    def _target(
        self, weight: torch.Tensor, group: int, hessian: torch.Tensor, mean: torch.Tensor
    ) -> torch.Tensor:
        """Return the weight [O, n] that makes of x what the float one makes of y, near that one."""
        other = self.meant[group] / self.windows
        crossed = self.crossed[group] - torch.outer(other, mean) * self.windows
        energy = self.products[group].diagonal().mean()
        held = HELD * (energy if energy > 0 else 1.0)
        held = torch.eye(len(hessian), dtype=torch.float64) * held
        with _one_thread():
            wanted = weight.to(torch.float64) @ (crossed + held)
            # Symmetric: the transpose is as good, and solve takes columns.
            found = torch.linalg.solve(hessian + held, wanted.t()).t()
        return found.to(torch.float32)

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
