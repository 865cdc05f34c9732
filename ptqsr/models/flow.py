"""What a network's layers do, seen while it enlarges one picture."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
# What has weights to multiply by, too.
OTHERS = (
    *(nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose3d),
    *(nn.Bilinear, nn.RNNBase, nn.MultiheadAttention),
)
HEIGHT, WIDTH = 48, 64

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


def watch(network: nn.Module, x: torch.Tensor) -> Flow:
    """Run a network on one picture, float32 [1, C, H, W]; it should be in evaluation mode."""
    seen = _Watch(network, x)
    with torch.inference_mode(False), torch.no_grad(), seen.hooks(), seen:
        y = network(x)
    size = y.shape[-2], y.shape[-1]
    return Flow(seen.places(), size, frozenset(seen.changed()), seen.input_changed)


JOIN, ENLARGED = "+", "^"
PRODUCTS = ("aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm", "aten.addmv", "aten.mv")
ATTENTION = "aten._scaled_dot_product"


@dataclass(frozen=True)
class _Call:
    """A layer's input: its shape and type, and whether a layer had a hand in it.

    `layered` is None where nothing of the picture is in it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    layered: bool | None


class _Watch(TorchDispatchMode):
    """Follows what is made of a picture, and notes when layers run.

    `events`: names of layers, and JOIN where two of their results are added or put side by side,
    ENLARGED where one first has more pixels than the picture.
    """

    def __init__(self, network: nn.Module, x: torch.Tensor) -> None:
        super().__init__()
        self.network, self.picture = network, x
        self.events: list[str] = []
        self.calls: dict[str, _Call] = {}
        self.running: list[str] = []
        self.layer: str | None = None
        self.hand = False  # whether it counts as having a hand in what it makes
        self.apart: dict[str, Place] = {}
        # By storage: whether a layer had a hand in it; how many tensors share it.
        self.layered: dict[int, bool] = {}
        self.users: dict[int, int] = {}
        owned = [(name, t) for name, t in network.named_parameters()]
        self.kept = {name: tensor.untyped_storage() for name, tensor in owned}
        self.owners = {
            storage._cdata: name.rpartition(".")[0] for name, storage in self.kept.items()
        }
        self.elsewhere: set[str] = set()
        self.written: set[str] = set()
        self.input_changed = False
        self._note(x, False)

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Know which module runs."""

        def before(name: str, module: nn.Module) -> Any:
            def enter(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
                self.running.append(name)
                if isinstance(module, LAYERS):
                    self._enter(name, module, inputs[0] if inputs else named["input"])

            return enter

        def after(name: str, module: nn.Module) -> Any:
            def leave(*_: object) -> None:
                self.running.pop()
                if isinstance(module, LAYERS):
                    self.layer = None
                    self.events.append(name)

            return leave

        with ExitStack() as stack:
            for name, module in self.network.named_modules():
                stack.callback(
                    module.register_forward_pre_hook(before(name, module), with_kwargs=True).remove
                )
                stack.callback(module.register_forward_hook(after(name, module)).remove)
            yield

    def _enter(self, name: str, layer: nn.Module, x: torch.Tensor) -> None:
        layered = self.layered.get(_storage(x))
        self.calls.setdefault(name, _Call(tuple(x.shape), x.dtype, layered))
        self.layer = name
        self.hand = layered is not False or not _keeps_colours_apart(layer)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = _tensors((args, kwargs))
        if func._schema.is_mutable and inputs:
            written = _storage(inputs[0])
            self.input_changed |= written == _storage(self.picture)
            if written in self.owners:
                self.written.add(self.owners[written])
        known = [self.layered[_storage(t)] for t in inputs if _storage(t) in self.layered]
        if not known:
            return result
        if self.layer is None:
            self._look(func, inputs)
        layered = any(known) or (self.layer is not None and self.hand)
        for tensor in _tensors(result):
            self._note(tensor, layered)
            if layered and ENLARGED not in self.events and self._is_larger(tensor):
                self.events.append(ENLARGED)
        return result

    def _is_larger(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is a larger picture: not a square, as those of attention."""
        if tensor.ndim != 4 or tensor.shape[0] != 1:
            return False
        height, width = (
            large / small
            for large, small in zip(tensor.shape[2:], self.picture.shape[2:], strict=True)
        )
        return min(height, width) >= 1.5 and 0.8 < height / width < 1.25

    def _look(self, func: Any, inputs: list[torch.Tensor]) -> None:
        """Note what is done outside of layers."""
        name = str(func.overloadpacket)
        made = [t for t in inputs if self.layered.get(_storage(t))]
        if name in ("aten.add", "aten.add_", "aten.cat"):
            apart = len({_storage(t) for t in made}) > 1 and made[0].ndim > 2
            if apart and (name == "aten.cat" or made[0].shape == made[1].shape):
                self.events.append(JOIN)
        weights = [t for t in inputs if _storage(t) in self.owners]
        if name == "aten.convolution":
            self._apart("convolves by weights that are no layer's")
        elif name in PRODUCTS and weights:
            self._apart("multiplies by weights that are no layer's")
        elif name.startswith(ATTENTION) or (name in PRODUCTS and len(made) > 1):
            self._apart("multiplies features by each other (attention)")
        if name in PRODUCTS or name == "aten.convolution":
            self.elsewhere |= {self.owners[_storage(t)] for t in weights}

    def _apart(self, why: str) -> None:
        self.apart.setdefault(self.running[-1] if self.running else "", Place("never", why))

    def _note(self, tensor: torch.Tensor, layered: bool) -> None:
        key = _storage(tensor)
        self.layered[key] = layered or self.layered.get(key, False)
        self.users[key] = self.users.get(key, 0) + 1
        weakref.finalize(tensor, self._release, key)

    def _release(self, key: int) -> None:
        self.users[key] -= 1
        if not self.users[key]:
            del self.users[key], self.layered[key]

    def changed(self) -> set[str]:
        """Return the layers whose parameters are others now, or have been written to."""
        now = {name: t.untyped_storage()._cdata for name, t in self.network.named_parameters()}
        others = {n.rpartition(".")[0] for n, old in self.kept.items() if now.get(n) != old._cdata}
        return others | self.written

    def places(self) -> dict[str, Place]:
        boundary, changed = self._boundary(), self.changed()
        last = {name: i for i, name in enumerate(self.events)}
        found = {}
        for name in dict.fromkeys(name for name in self.events if name in self.calls):
            layer, call = self.network.get_submodule(name), self.calls[name]
            if problem := self._problem(name, layer, call, name in changed):
                found[name] = Place("never", problem)
            else:
                found[name] = _place(layer, call, last[name] >= boundary)
        for name, module in self.network.named_modules():
            if isinstance(module, OTHERS):
                found[name] = Place("never", f"{type(module).__name__} has no quantized form")
            elif isinstance(module, LAYERS):
                found.setdefault(name, Place("never", IDLE))
        return {**self.apart, **found}

    def _problem(self, name: str, layer: nn.Module, call: _Call, changed: bool) -> str | None:
        """Return why a layer that runs cannot be quantized, if it cannot."""
        linear, dimensions = isinstance(layer, nn.Linear), len(call.shape)
        if changed:
            return "the network makes its weights anew in every run"
        if name in self.elsewhere:
            return "its weights are used elsewhere, too"
        if call.layered is None:
            return "what it reads does not depend on the picture"
        if linear and dimensions == 2:
            return GATE
        if call.dtype != torch.float32 or (dimensions < 3 if linear else dimensions != 4):
            return f"its input is {call.dtype} {list(call.shape)}"
        return unfit(layer)

    def _boundary(self) -> int:
        """Return from which event on layers enlarge what has been made, or make the output of it.

        That is the last join before the first tensor of more pixels, if most layers come before
        it, or else the last layer there.
        """
        ran = [i for i, name in enumerate(self.events) if name in self.calls]
        if not ran:
            return 0
        end = self.events.index(ENLARGED) if ENLARGED in self.events else len(self.events)
        if end < ran[0]:
            end = len(self.events)  # the picture itself was enlarged first
        before = [i for i in ran if i < end]
        joins = [i for i in range(end) if self.events[i] == JOIN and ran[-1] > i]
        after = [i for i in before if joins and i > joins[-1]]
        return joins[-1] if joins and 2 * len(after) <= len(before) else before[-1]


def _keeps_colours_apart(layer: nn.Module) -> bool:
    """Return whether a layer subtracts a mean, or divides by a deviation: a picture stays one."""
    if not isinstance(layer, nn.Conv2d) or layer.in_channels > 3 or max(layer.kernel_size) > 1:
        return False
    gains = layer.weight.flatten(1)
    return gains.shape[0] == gains.shape[1] and torch.equal(gains, gains.diagonal().diag())


def _place(layer: nn.Module, call: _Call, late: bool) -> Place:
    """Return what a layer is that can be quantized; `late`: it comes after the boundary."""
    convolution = isinstance(layer, nn.Conv2d)
    if not isinstance(layer, nn.Linear) and max(call.shape[2:]) == 1:
        return Place("other", GATE)
    if not call.layered:
        return Place("edge" if convolution else "other", "reads the picture")
    if late:
        why = "comes after the last shortcut: enlarges, or makes the output"
        return Place("edge" if convolution else "other", why)
    return Place("body", "between the first layer and those that enlarge")


def unfit(layer: nn.Module) -> str | None:
    """Return why there is no quantized layer that does what a convolution or linear layer does."""
    for kind in LAYERS:
        if isinstance(layer, kind) and type(layer).forward is not kind.forward:
            return f"{type(layer).__name__} computes something else than nn.{kind.__name__}"
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


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _storage(x: torch.Tensor) -> int:
    return x.untyped_storage()._cdata
