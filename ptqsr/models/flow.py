"""What the layers of a network are to it, and why: from what was seen of one run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
# What has weights to multiply by, too.
OTHERS = (
    *(nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose3d),
    *(nn.Bilinear, nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer),
)
# Among the names of layers that ran: where two of their results are added or put side by side, and
# where one first has more pixels than the picture.
JOIN, ENLARGED = "+", "^"
HEIGHT, WIDTH = 48, 64  # of the picture

# "body": quantized if nothing else is said; "edge": with `edges`; "other": where included; "never":
# cannot be.
Part = Literal["body", "edge", "other", "never"]
IDLE = "the network never runs it"
GATE = "reads one value of each channel: there is nothing to save"


@dataclass(frozen=True)
class Place:
    """What a layer is to its network, and why, in words."""

    part: Part
    why: str


@dataclass(frozen=True)
class Flow:
    """What was seen. `places`: by name, layers in the order in which they run, then what is no
    layer and computes as one. `size`: of the output, (height, width). `changed`: layers whose
    weights the network itself changed; `input_changed`: whether it wrote into the picture.
    """

    places: Mapping[str, Place]
    size: tuple[int, int]
    changed: frozenset[str]
    input_changed: bool


@dataclass(frozen=True)
class Call:
    """A layer's input: its shape and type, and whether a layer had a hand in it.

    `layered` is None where nothing of the picture is in it. `more`: the layer was given something
    else, too.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    layered: bool | None
    more: bool = False


def boundary(events: Sequence[str]) -> int:
    """Return from which event on layers enlarge what has been made, or make the output of it.

    That is the last join before the first tensor of more pixels, if most layers come before it, or
    else the last layer there.
    """
    ran = [i for i, name in enumerate(events) if name not in (JOIN, ENLARGED)]
    if not ran:
        return 0
    end = events.index(ENLARGED) if ENLARGED in events else len(events)
    if end < ran[0]:
        end = len(events)  # the picture itself was enlarged first
    before = [i for i in ran if i < end]
    joins = [i for i in range(end) if events[i] == JOIN and ran[-1] > i]
    after = [i for i in before if joins and i > joins[-1]]
    return joins[-1] if joins and 2 * len(after) <= len(before) else before[-1]


def places(
    network: nn.Module,
    events: Sequence[str],
    calls: Mapping[str, Collection[Call]],
    seen: Mapping[str, str],
) -> dict[str, Place]:
    """Return what every layer is, and other modules that compute as one.

    `calls`: of every layer that ran; `seen`: why layers cannot be quantized, as far as one sees.
    """
    from_here, last = boundary(events), {name: i for i, name in enumerate(events)}
    seen = {**seen, **_inside_others(network)}
    found = {}
    for name in dict.fromkeys(name for name in events if name in calls):
        layer, inputs = network.get_submodule(name), calls[name]
        why = seen.get(name) or next(filter(None, (problem(layer, call) for call in inputs)), None)
        late = last[name] >= from_here
        found[name] = Place("never", why) if why else place(layer, inputs, late)
    for name, module in network.named_modules():
        if isinstance(module, OTHERS):
            found[name] = Place("never", f"{type(module).__name__} has no quantized form")
        elif isinstance(module, LAYERS):
            found.setdefault(name, Place("never", seen.get(name, IDLE)))
    return found


def _inside_others(network: nn.Module) -> dict[str, str]:
    """Return the layers whose weights such a module takes by itself, and that it does."""
    return {
        f"{name}.{inner}": f"is part of a {type(module).__name__}"
        for name, module in network.named_modules()
        if isinstance(module, OTHERS)
        for inner, layer in module.named_modules()
        if isinstance(layer, LAYERS)
    }


def problem(layer: nn.Module, call: Call) -> str | None:
    """Return why a layer that runs so cannot be quantized, if it cannot."""
    linear, dimensions = isinstance(layer, nn.Linear), len(call.shape)
    if why := unfit(layer):
        return why
    if call.layered is None:
        return "what it reads does not depend on the picture"
    if call.more:
        return "it is given more than its input"
    if linear and dimensions == 2 and call.shape[0] == 1:
        return GATE
    if call.dtype != torch.float32 or (dimensions < 3 if linear else dimensions != 4):
        return f"its input is {call.dtype} {list(call.shape)}"
    return None


def place(layer: nn.Module, calls: Collection[Call], late: bool) -> Place:
    """Return what a layer is that can be quantized; `late`: it comes after the boundary."""
    convolution = isinstance(layer, nn.Conv2d)
    if not isinstance(layer, nn.Linear) and all(max(call.shape[2:]) == 1 for call in calls):
        return Place("other", GATE)
    if not all(call.layered for call in calls):
        return Place("edge" if convolution else "other", "reads the picture")
    if late:
        why = "comes after the last shortcut: enlarges, or makes the output"
        return Place("edge" if convolution else "other", why)
    return Place("body", "between the first layer and those that enlarge")


def computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a module's steps are those of `kind`, and none of its user's."""
    return isinstance(module, kind) and all(
        getattr(type(module), step, None) is getattr(kind, step, None) and step not in vars(module)
        for step in ("forward", "_conv_forward")
    )


def unfit(layer: nn.Module) -> str | None:
    """Return why there is no quantized layer that does what a convolution or linear layer does."""
    for kind in LAYERS:
        if isinstance(layer, kind) and not computes_as(layer, kind):
            what = "it" if type(layer) is kind else type(layer).__name__
            return f"{what} computes something else than nn.{kind.__name__}"
    # Those of weight_norm and its like make the weight; it is taken as it is.
    hooks = [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]
    if any(not type(hook).__module__.startswith("torch.nn.utils") for hook in hooks):
        return "it has forward hooks of its own"
    if isinstance(layer, nn.ConvTranspose2d):
        if len(set(layer.stride)) > 1:
            return f"transposed convolution of stride {'x'.join(map(str, layer.stride))}"
        if max(layer.dilation) > 1:
            return f"transposed convolution of dilation {'x'.join(map(str, layer.dilation))}"
    return None


def keeps_colours_apart(layer: nn.Module) -> bool:
    """Return whether a layer subtracts a mean, or divides by a deviation: a picture stays one."""
    if not isinstance(layer, nn.Conv2d) or layer.in_channels > 3 or max(layer.kernel_size) > 1:
        return False
    gains = layer.weight.flatten(1)
    return gains.shape[0] == gains.shape[1] and torch.equal(gains, gains.diagonal().diag())
