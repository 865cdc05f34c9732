"""Which tensors the quantized convolutions read, and what those tensors are made of."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from ptqsr.errors import PtqsrError
from ptqsr.models import SRNetwork, observing


@dataclass(frozen=True)
class Sighting:
    """Where a part shows: in which layer's input, at which of its calls, from which channel on."""

    layer: str
    call: int
    start: int


@dataclass(frozen=True)
class Part:
    """Channels that are quantized alike wherever they are read.

    The sightings show every tensor of it once: a recursive layer reads several. `of_picture`: no
    convolution had a hand in it (known only where readings are taken `per_channel`).
    """

    channels: int
    sightings: tuple[Sighting, ...]
    of_picture: bool = False


@dataclass(frozen=True)
class Readings:
    """All parts, and for every layer the numbers of those that it reads, in order.

    `calls`: how often every layer runs.
    """

    parts: tuple[Part, ...]
    layers: Mapping[str, tuple[int, ...]]
    calls: Mapping[str, int]


@torch.inference_mode(False)  # tensors of that mode have no version
@torch.no_grad()
def readings(
    network: SRNetwork,
    layers: Mapping[str, nn.Module],
    x: torch.Tensor,
    *,
    per_channel: bool,
    rules: Mapping[str, Hashable] | None = None,
) -> Readings:
    """Return what every layer reads, found by running the network once on x.

    Layers that read one tensor share a part if they have the same rule (by default all do); so do
    the tensors that one layer reads in several calls. With `per_channel` a concatenation is the
    list of its parts, and channels that were split off are parts, so that a channel is measured
    once however often it is read; otherwise a tensor is one part as it is read. Raises PtqsrError
    for a layer that does not run.
    """
    channels = _Channels()
    reads: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    watching = observing(layers, lambda name, tensor: reads[name].append(channels.of(tensor)))
    with watching, channels if per_channel else nullcontext():
        network(x)
    for name, calls in reads.items():
        if not calls:
            raise PtqsrError(f"layer {name}: the network never runs it; exclude it")
    # For the readers of each rule, every channel is another one.
    rules = rules or dict.fromkeys(layers)
    kinds = list(dict.fromkeys(rules.values()))
    for name, calls in reads.items():
        reads[name] = [call + kinds.index(rules[name]) * channels.count for call in calls]
    root = _unite(len(kinds) * channels.count, reads)
    rows = {name: root[calls[0]] for name, calls in reads.items()}
    cuts = _cuts(rows, lambda number: channels.source(number % channels.count))
    numbers: dict[int, int] = {}
    sightings: list[list[Sighting]] = []
    widths: list[int] = []
    seen: set[bytes] = set()
    table = {}
    for name, row in rows.items():
        starts = [i for i in range(len(row)) if i == 0 or (row[i - 1], row[i]) in cuts]
        for start, stop in zip(starts, [*starts[1:], len(row)], strict=True):
            if row[start] not in numbers:
                numbers[row[start]] = len(sightings)
                sightings.append([])
                widths.append(stop - start)
            for number, call in enumerate(reads[name]):
                if (tensor := call[start:stop].tobytes()) not in seen:
                    seen.add(tensor)
                    sightings[numbers[row[start]]].append(Sighting(name, number, start))
        table[name] = tuple(numbers[row[start]] for start in starts)
    raw = (per_channel and channels.is_raw(number % channels.count) for number in numbers)
    parts = tuple(
        Part(width, tuple(shown), of_picture)
        for width, shown, of_picture in zip(widths, sightings, raw, strict=True)
    )
    return Readings(parts, table, {name: len(calls) for name, calls in reads.items()})


class _Channels(TorchDispatchMode):
    """Gives every channel of every tensor a number; concatenating and splitting keep them.

    A tensor is raw until a convolution has a hand in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.sources: list[int] = []  # the first number of every tensor that was made anew
        self.raw: list[bool] = []  # of these tensors
        self.known = WeakTensorKeyDictionary()
        self.convolved = WeakTensorKeyDictionary()

    def of(self, x: torch.Tensor) -> np.ndarray:
        """Return the numbers of x's channels, new ones where an in-place operation changed it."""
        version, numbers = self.known.get(x, (-1, None))
        if numbers is None or version != x._version:
            self.sources.append(self.count)
            self.raw.append(x not in self.convolved)
            numbers = np.arange(self.count, self.count + x.shape[1])
            self.count += x.shape[1]
            self.known[x] = (x._version, numbers)
        return numbers

    def source(self, number: int) -> int:
        """Return which tensor a channel was made with."""
        return int(np.searchsorted(self.sources, number, side="right"))

    def is_raw(self, number: int) -> bool:
        return self.raw[self.source(number) - 1]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        aten = torch.ops.aten
        if func is aten.convolution.default or any(t in self.convolved for t in _tensors(args)):
            self.convolved.update((t, True) for t in _tensors(result))
        x, *rest = args if args else (None,)
        if func is aten.cat.default:
            if result.ndim == 4 and rest in ([1], [-3]):
                self._keep(result, np.concatenate([self.of(part) for part in x]))
        elif not isinstance(x, torch.Tensor) or x.ndim != 4:
            pass
        elif func is aten.slice.Tensor:
            given = dict(zip(("dim", "start", "stop", "step"), rest, strict=False))
            if given.get("dim", 0) in (1, -3):
                span = slice(given.get("start"), given.get("stop"), given.get("step"))
                self._keep(result, self.of(x)[span])
            elif result.shape == x.shape:
                self._keep(result, self.of(x))
        elif func in (aten.split.Tensor, aten.split_with_sizes.default):
            if rest[1:] in ([1], [-3]):
                ends = np.cumsum([part.shape[1] for part in result])
                for part, end in zip(result, ends, strict=True):
                    self._keep(part, self.of(x)[end - part.shape[1] : end])
        elif func in (aten.alias.default, aten.detach.default):
            self._keep(result, self.of(x))
        return result

    def _keep(self, x: torch.Tensor, numbers: np.ndarray) -> None:
        self.known[x] = (x._version, numbers)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _unite(count: int, reads: Mapping[str, list[np.ndarray]]) -> np.ndarray:
    """Return every channel's root: the smallest channel that is quantized as it is."""
    parent = list(range(count))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for first, *others in reads.values():
        for other in others:
            for a, b in zip(first.tolist(), other.tolist(), strict=True):
                low, high = sorted((find(a), find(b)))
                parent[high] = low
    return np.array([find(i) for i in range(count)])


def _cuts(rows: Mapping[str, np.ndarray], source: Any) -> set[tuple[int, int]]:
    """Return the neighbouring channels between which a part ends.

    They stay together if every layer that reads one reads the other beside it, and if they were
    made together.
    """
    after: dict[int, set[int]] = {}
    before: dict[int, set[int]] = {}
    for row in rows.values():
        numbers = [-1, *row.tolist(), -1]
        for a, b in pairwise(numbers):
            after.setdefault(a, set()).add(b)
            before.setdefault(b, set()).add(a)
    return {
        (a, b)
        for a, followers in after.items()
        for b in followers
        if len(followers) > 1 or len(before[b]) > 1 or source(a) != source(b)
    }
