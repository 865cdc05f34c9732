"""Watching a network enlarge one picture: when its layers run, and on what."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ptqsr.errors import PtqsrError
from ptqsr.models.flow import (
    ENLARGED,
    JOIN,
    LAYERS,
    Call,
    Flow,
    Place,
    keeps_colours_apart,
    places,
)

PRODUCTS = ("aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm", "aten.addmv", "aten.mv")
ATTENTION = "aten._scaled_dot_product"


def watch(network: nn.Module, x: torch.Tensor) -> Flow:
    """Run a network on one picture, float32 [1, C, H, W]; it should be in evaluation mode.

    Raises PtqsrError where it gives something else than a picture, and whatever the network raises.
    """
    seen = _Watch(network, x)
    with torch.inference_mode(False), torch.no_grad(), seen.hooks(), seen:
        y = network(x)
    if not isinstance(y, torch.Tensor) or y.shape[:-2] != x.shape[:-2]:
        what = list(y.shape) if isinstance(y, torch.Tensor) else f"a {type(y).__name__}"
        raise PtqsrError(f"it gives {what} for {list(x.shape)}; wrap what gives one picture alone")
    return Flow(seen.places(), (y.shape[2], y.shape[3]), seen.changed(), seen.input_changed)


class _Watch(TorchDispatchMode):
    """Follows what is made of a picture, and notes when layers run.

    `events`: names of layers, and JOIN where two of their results are added or put side by side,
    ENLARGED where one first has more pixels than the picture.
    """

    def __init__(self, network: nn.Module, x: torch.Tensor) -> None:
        super().__init__()
        self.network, self.picture = network, x
        self.events: list[str] = []
        self.calls: dict[str, dict[Call, None]] = {}
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
                    self._enter(name, module, (*inputs, *named.values()))

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

    def _enter(self, name: str, layer: nn.Module, given: tuple[Any, ...]) -> None:
        x = _tensors(given)[0]
        layered = self.layered.get(_storage(x))
        call = Call(tuple(x.shape), x.dtype, layered, more=len(given) > 1)
        self.calls.setdefault(name, {})[call] = None
        self.layer = name
        self.hand = layered is not False or not keeps_colours_apart(layer)

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

    def changed(self) -> frozenset[str]:
        """Return the layers whose parameters are others now, or have been written to."""
        now = {name: t.untyped_storage()._cdata for name, t in self.network.named_parameters()}
        others = {n.rpartition(".")[0] for n, old in self.kept.items() if now.get(n) != old._cdata}
        return frozenset(others | self.written)

    def places(self) -> dict[str, Place]:
        """Return what every layer is, and what computes as one."""
        why = dict.fromkeys(self.elsewhere, "its weights are used elsewhere, too")
        why |= dict.fromkeys(self.changed(), "the network makes its weights anew in every run")
        return {**self.apart, **places(self.network, self.events, self.calls, why)}


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _storage(x: torch.Tensor) -> int:
    return x.untyped_storage()._cdata
