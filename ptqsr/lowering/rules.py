"""What a quantized convolution takes over from the steps after it, one rule for each."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ptqsr.lowering.trace import Traced
from ptqsr.models.flow import computes_as


@dataclass(eq=False)
class Fusion:
    """A convolution that grows: `last` is the node whose value it makes so far.

    `gain` and `bias`: float64 [O], what is folded into the steps of the weights, and the bias.
    """

    node: fx.Node
    last: fx.Node
    gain: torch.Tensor
    bias: torch.Tensor | None
    activation: str = "none"
    slope: torch.Tensor | None = None
    residual: fx.Node | None = None
    last_activation: str = "none"
    shuffle: int = 1
    absorbed: list[str] = field(default_factory=list)

    @property
    def linear(self) -> bool:
        """Whether nothing but factors and biases has come yet."""
        return self.activation == "none" and self.residual is None


Rule = Callable[[Fusion, fx.Node, Traced], str | None]


def absorb(fusion: Fusion, traced: Traced, taken: Set[fx.Node]) -> None:
    """Let a convolution take over its successors as long as nobody else reads what they do.

    `taken`: what others have absorbed.
    """
    while len(fusion.last.users) == 1:
        (user,) = fusion.last.users
        if user in taken or _uses(user, fusion.last) != 1:
            return
        what = next((found for rule in RULES if (found := rule(fusion, user, traced))), None)
        if what is None:
            return
        fusion.last = user
        fusion.absorbed.append(what)


def batch_norm(fusion: Fusion, user: fx.Node, traced: Traced) -> str | None:
    norm = traced.module(user)
    if not is_a(norm, nn.BatchNorm2d) or not fusion.linear:
        return None
    assert isinstance(norm, nn.BatchNorm2d)
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return None
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.detach().double()
    bias = -norm.running_mean.double() * gain
    if norm.bias is not None:
        bias = bias + norm.bias.detach().double()
    # A channel that pixels were shuffled into is made by so many of the convolution's.
    gain, bias = (t.repeat_interleave(fusion.shuffle**2) for t in (gain, bias))
    fusion.gain = fusion.gain * gain
    fusion.bias = bias if fusion.bias is None else fusion.bias * gain + bias
    return "batch norm"


def factor(fusion: Fusion, user: fx.Node, traced: Traced) -> str | None:
    """Multiplication by a constant, or division, as EDSR's res_scale."""
    multiplies = _calls(user, {operator.mul, operator.imul, torch.mul, "mul", "mul_"})
    divides = _calls(user, {operator.truediv, operator.itruediv, torch.div, "div", "div_"})
    if not (multiplies or divides) or not fusion.linear or user.kwargs or len(user.args) != 2:
        return None
    constants = [arg for arg in user.args if arg is not fusion.last]
    if len(constants) != 1 or (divides and user.args[0] is not fusion.last):
        return None
    (constant,) = constants
    if isinstance(constant, bool) or not isinstance(constant, (int, float)):
        return None
    if not math.isfinite(constant) or (divides and constant == 0):
        return None
    gain = 1 / constant if divides else float(constant)
    fusion.gain = fusion.gain * gain
    fusion.bias = None if fusion.bias is None else fusion.bias * gain
    return f"factor {constant:g}" if multiplies else f"divisor {constant:g}"


def relu(fusion: Fusion, user: fx.Node, traced: Traced) -> str | None:
    functions = {F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"}
    if not is_a(traced.module(user), nn.ReLU) and not _calls(user, functions):
        return None
    if fusion.linear:
        fusion.activation = "relu"
    elif fusion.last_activation == "none":
        fusion.last_activation = "relu"
    return "ReLU"


def leaky_relu(fusion: Fusion, user: fx.Node, traced: Traced) -> str | None:
    module, functions = traced.module(user), {F.leaky_relu, F.leaky_relu_}
    if isinstance(module, nn.LeakyReLU) and is_a(module, nn.LeakyReLU):
        slope: Any = module.negative_slope
    elif _calls(user, functions):
        slope = argument(user, 1, "negative_slope", 0.01)
    else:
        return None
    if not fusion.linear or not isinstance(slope, (int, float)):
        return None
    fusion.activation, fusion.slope = "leaky", torch.tensor([float(slope)])
    return f"leaky ReLU {slope:g}"


def prelu(fusion: Fusion, user: fx.Node, traced: Traced) -> str | None:
    module = traced.module(user)
    if isinstance(module, nn.PReLU) and is_a(module, nn.PReLU):
        slope: torch.Tensor | None = module.weight.detach()
    elif _calls(user, {F.prelu, torch.prelu, "prelu"}):
        slope = traced.tensor(argument(user, 1, "weight", None))
    else:
        return None
    if slope is None or not fusion.linear or slope.dtype != torch.float32:
        return None
    slope = slope.flatten()
    if len(slope) not in (1, len(fusion.gain)) or (len(slope) > 1 and fusion.shuffle > 1):
        return None
    fusion.activation, fusion.slope = "leaky", slope
    return "PReLU"


def residual(fusion: Fusion, user: fx.Node, traced: Traced) -> str | None:
    """The addition of a tensor of the same shape, on either side."""
    functions = {operator.add, operator.iadd, torch.add, "add", "add_"}
    if not _calls(user, functions) or user.kwargs or len(user.args) != 2:
        return None
    others = [arg for arg in user.args if arg is not fusion.last]
    if fusion.residual is not None or fusion.last_activation != "none" or fusion.shuffle > 1:
        return None
    if len(others) != 1 or not isinstance(others[0], fx.Node):
        return None
    if traced.shapes.get(others[0]) != traced.shapes[fusion.last]:
        return None
    fusion.residual = others[0]
    return "residual"


def pixel_shuffle(fusion: Fusion, user: fx.Node, traced: Traced) -> str | None:
    module = traced.module(user)
    if isinstance(module, nn.PixelShuffle) and is_a(module, nn.PixelShuffle):
        size: Any = module.upscale_factor
    elif _calls(user, {F.pixel_shuffle, torch.pixel_shuffle}):
        size = argument(user, 1, "upscale_factor", None)
    else:
        return None
    if fusion.residual is not None or fusion.shuffle > 1 or not isinstance(size, int):
        return None
    fusion.shuffle = size
    return f"pixel shuffle {size}"


RULES: tuple[Rule, ...] = (batch_norm, factor, relu, leaky_relu, prelu, residual, pixel_shuffle)


def is_a(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Return whether a module computes what `kind` does, and nothing of its user's besides."""
    if module is None or not computes_as(module, kind):
        return False
    return not (module._forward_hooks or module._forward_pre_hooks)


def argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    """Return an argument of a call, given by position or by name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _calls(node: fx.Node, targets: set[Any]) -> bool:
    return node.op in ("call_function", "call_method") and node.target in targets


def _uses(user: fx.Node, node: fx.Node) -> int:
    """Return how often a node stands among another's arguments."""
    found: list[fx.Node] = []
    fx.map_arg((user.args, user.kwargs), found.append)
    return found.count(node)
