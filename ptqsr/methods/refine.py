"""dfsq+: every layer's weights rounded for what it multiplies, layer by layer.

A layer's input is that of the network quantized so far, and what it should give is what it gives in
the float network, so that it makes up for what those before it lost. Closed forms only: nothing is
trained, the storage stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.methods.moments import Moments
from ptqsr.methods.units import calls, walk
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import QuantizedWeight, best_grid, compensated
from ptqsr.quantizers.uniform import grid

# Of the mean energy of the inputs: holds weights near the float ones.
HELD = 0.1


@dataclass(frozen=True)
class Ingredients:
    """What is done; all of it by default. Left out for ablations.

    `target`: weights for the inputs that the quantized network gives, in place of the float ones,
    by least squares; not in layers that run several times, whose inputs are not yet what they will
    be once all calls are quantized. `ranges`: those that lose least, else [min, max].
    `compensation`: rounding errors make up for each other, else to nearest. `bias`: the mean output
    is that of the float network, in layers that have a bias.
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
    for done, (name, given, meant) in enumerate(walk(network, model, times, inputs), 1):
        layer = network.get_submodule(name)
        assert isinstance(layer, FakeQuantConv2d)
        original = model.get_submodule(name)
        assert isinstance(original, nn.Conv2d)
        moments = Moments(layer)
        for here, there in zip(given, meant, strict=True):
            moments.take(layer, here, original(there))
        recipe = replace(
            chosen,
            target=chosen.target and times[name] == 1,
            bias=chosen.bias and layer.bias is not None,
        )
        try:
            weight = _rounded(moments, original, layer.weight_bits, recipe)
        except torch.linalg.LinAlgError:
            raise PtqsrError(
                f"layer {name}: its weights cannot be rounded for what they multiply, which varies "
                "too little for float64; give other pictures, exclude the layer, or choose dfsq"
            ) from None
        layer.set_weight(weight)
        if layer.bias is not None and recipe.bias:
            layer.bias.copy_(moments.bias(weight.dequantize()))
        progress(done, len(times))


def _rounded(
    moments: Moments, original: nn.Conv2d, bits: int, ingredients: Ingredients
) -> QuantizedWeight:
    """Return a float layer's weight as integers."""
    parts = []
    weight = original.weight.detach()
    for group, kernels in enumerate(weight.cpu().float().flatten(1).chunk(moments.groups)):
        hessian, crossed = moments.squares(group, original, ingredients.bias)
        if ingredients.target:
            kernels = _target(kernels, hessian, crossed, moments.energy(group))
        importance = hessian.diagonal().clamp(min=0).to(torch.float32)
        if ingredients.ranges:
            step, lowest = best_grid(kernels, bits, importance)
        else:
            step, lowest = grid(kernels.amin(1), kernels.amax(1), bits)
        steps = kernels.to(torch.float64) / step[:, None]
        if ingredients.compensation:
            steps = compensated(kernels, hessian, step, lowest, bits)
        parts.append((steps, step, lowest))
    steps, step, lowest = (torch.cat(columns) for columns in zip(*parts, strict=True))
    levels = torch.round(steps).view(weight.shape)
    return QuantizedWeight.from_levels(levels, step, lowest, bits).to(weight.device)


def _target(
    weight: torch.Tensor, hessian: torch.Tensor, crossed: torch.Tensor, energy: torch.Tensor
) -> torch.Tensor:
    """Return the weight [O, n] that makes of x what is nearest to y, held near the float one."""
    held = HELD * (energy if energy > 0 else 1.0)
    wanted = crossed + held * weight
    # Symmetric: the transpose is as good, and solve takes columns.
    whole = hessian + held * torch.eye(len(hessian), dtype=torch.float64)
    return torch.linalg.solve(whole, wanted.mT).mT.to(torch.float32)
