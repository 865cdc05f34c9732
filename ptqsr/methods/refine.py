"""dfsq+: every layer's weights rounded for what it multiplies, layer by layer.

A layer's input is that of the network quantized so far, and what it should give is what it gives in
the float network, so that it makes up for what those before it lost. Closed forms only: nothing is
trained, the storage stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr.methods.threads import one_thread
from ptqsr.methods.units import calls, passing
from ptqsr.models import Lockstep, SRNetwork
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import QuantizedWeight, best_grid, compensated
from ptqsr.quantizers.uniform import grid

# Of the mean energy of the inputs: holds weights near the float ones. From 0.003 to 1 the gain on
# IMDN and IDN was largest at 0.1.
HELD = 0.1
# Numbers in all pictures; of more than these one is run at a time, from the start for every layer.
TOGETHER = 1 << 19


@dataclass(frozen=True)
class Ingredients:
    """What is done; all of it by default. Left out for ablations.

    `target`: weights for the inputs that the quantized network gives, in place of the float ones,
    by least squares; not in layers that run several times, whose inputs are not yet what they will
    be once all calls are quantized (0.15 dB worse on CARN-M at 3 bits). `ranges`: those that lose
    least, else [min, max]. `compensation`: rounding errors make up for each other, else to nearest.
    `bias`: the mean output is that of the float network.
    """

    target: bool = True
    ranges: bool = True
    compensation: bool = True
    bias: bool = True


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
    times = calls(model, names, next(iter(inputs)))
    progress(0, len(times))
    for done, (name, given, meant) in enumerate(_walk(network, model, times, inputs), 1):
        layer = network.get_submodule(name)
        assert isinstance(layer, FakeQuantConv2d)
        original = model.get_submodule(name)
        assert isinstance(original, nn.Conv2d)
        moments = _Moments(layer)
        for here, there in zip(given, meant, strict=True):
            moments.take(layer, here, original(there))
        recipe = replace(chosen, target=chosen.target and times[name] == 1)
        weight = moments.rounded(original, layer.weight_bits, recipe)
        layer.set_weight(weight)
        if layer.bias is not None and chosen.bias:
            layer.bias.copy_(moments.bias(weight.dequantize()))
        progress(done, len(times))


Tensors = Iterable[torch.Tensor]


def _walk(
    network: SRNetwork, model: SRNetwork, times: Mapping[str, int], inputs: Tensors
) -> Iterator[tuple[str, Tensors, Tensors]]:
    """Yield every layer, in the order in which they run, with its inputs in both networks.

    Each is to be gone through once, both in step. A layer that the caller changes is the changed
    one for those after it.
    """

    def apart(name: str) -> tuple[str, Tensors, Tensors]:
        found = (_inputs(of, name, times[name], inputs) for of in (network, model))
        return name, next(found), next(found)

    if sum(x.numel() for x in inputs) > TOGETHER:
        yield from map(apart, times)
        return
    with ExitStack() as stack:
        here, there = (
            stack.enter_context(Lockstep(of, {n: of.get_submodule(n) for n in times}, inputs))
            for of in (network, model)
        )
        seen: set[str] = set()
        for _ in range(sum(times.values())):
            (name, given), (_, meant) = here.advance(), there.advance()
            if times[name] == 1:
                yield name, given, meant
            elif name not in seen:
                # All of its calls count, and those to come are not known yet.
                yield apart(name)
            seen.add(name)


def _inputs(network: SRNetwork, name: str, calls: int, inputs: Tensors) -> Iterator[torch.Tensor]:
    """Yield all inputs of a layer, of which a picture has so many."""
    for x in inputs:
        yield from (given for given, _ in passing(network, name, calls, x))


class _Moments:
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
        padded = _padded(layer, layer.quantizer(given)).cpu()
        rows = F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
        x, y = (t.unflatten(1, (self.groups, -1)) for t in (rows, meant.cpu().flatten(2)))
        with one_thread():
            for of_x, of_y in zip(x, y, strict=True):
                # Of one picture float32 is enough.
                self.products += of_x @ of_x.mT
                self.crossed += of_y @ of_x.mT
        self.sums += x.sum((0, 3), dtype=torch.float64)
        self.meant += y.sum((0, 3), dtype=torch.float64)
        self.windows += len(x) * x.shape[3]

    def rounded(self, original: nn.Conv2d, bits: int, ingredients: Ingredients) -> QuantizedWeight:
        """Return a float layer's weight as integers."""
        parts = []
        weight = original.weight.detach()
        for group, kernels in enumerate(weight.cpu().float().flatten(1).chunk(self.groups)):
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
            steps = kernels.to(torch.float64) / step[:, None]
            if ingredients.compensation:
                with one_thread():
                    steps = compensated(kernels, hessian, step, lowest, bits)
            parts.append((steps, step, lowest))
        steps, step, lowest = (torch.cat(columns) for columns in zip(*parts, strict=True))
        levels = torch.round(steps).view(weight.shape)
        return QuantizedWeight.from_levels(levels, step, lowest, bits).to(weight.device)

    def _target(
        self, weight: torch.Tensor, group: int, hessian: torch.Tensor, mean: torch.Tensor
    ) -> torch.Tensor:
        """Return the weight [O, n] that makes y of x, but for a constant, near the float one."""
        crossed = self.crossed[group] - torch.outer(self.meant[group], mean)
        energy = self.products[group].diagonal().mean()
        held = HELD * (energy if energy > 0 else 1.0)
        with one_thread():
            wanted = crossed + held * weight
            # Symmetric: the transpose is as good, and solve takes columns.
            whole = hessian + held * torch.eye(len(hessian), dtype=torch.float64)
            return torch.linalg.solve(whole, wanted.mT).mT.to(torch.float32)

    def bias(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the bias, float32 [O], that gives every output channel its float mean."""
        kernels = weight.cpu().to(torch.float64).flatten(1).chunk(self.groups)
        missing = [
            (y - k @ x) / self.windows
            for k, x, y in zip(kernels, self.sums, self.meant, strict=True)
        ]
        return torch.cat(missing).to(weight.device, torch.float32)


def _padded(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Return the input with what the layer pads it with."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, layer._reversed_padding_repeated_twice, mode)
