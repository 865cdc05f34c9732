"""CUDA graphs of a network's programs, one for every shape that comes again."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any, Protocol

import torch

from ptqsr import native

Function = Callable[..., torch.Tensor]

SHAPES_REMEMBERED = 1024  # of those that came once

log = logging.getLogger("ptqsr")


class Replay(Protocol):
    """A recorded function: takes what it was recorded with the shapes of, gives a new tensor."""

    def __call__(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor: ...


# Recording waits for the whole device, which nobody may do while another one is recorded.
_recording = threading.Lock()


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return where recordings are made. PyTorch hands out its own streams in turn, several times:
    what others launched on one would be recorded too."""
    with torch.cuda.device(device):
        address = native.new_stream()
    return torch.cuda.ExternalStream(address, device) if address else torch.cuda.Stream(device)


class CudaGraph:
    """What a function does on the GPU, recorded; for any thread and stream, one at a time."""

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, function: Function, inputs: Sequence[torch.Tensor]) -> None:
        self.device = inputs[0].device
        self._lock = threading.Lock()
        self._inputs = [x.clone() for x in inputs]
        with _recording, torch.cuda.device(self.device):
            self._done = torch.cuda.Event()
            self._graph = torch.cuda.CUDAGraph()
            before = torch.cuda.current_stream()
            stream = _stream(self.device)
            stream.wait_stream(before)
            try:
                with torch.cuda.stream(stream):
                    function(*self._inputs)  # what is made once, as packed weights, is made now
                stream.synchronize()
                # Other threads may go on allocating on streams of their own.
                with torch.cuda.graph(
                    self._graph, stream=stream, capture_error_mode="thread_local"
                ):
                    self._output = function(*self._inputs)
            finally:
                torch.cuda.set_stream(before)  # where ending a failed recording failed too

    @torch.inference_mode(False)
    @torch.no_grad()
    def __call__(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        with self._lock, torch.cuda.device(self.device):
            stream = torch.cuda.current_stream()
            stream.wait_event(self._done)  # another stream may still be at it
            for mine, given in zip(self._inputs, inputs, strict=True):
                mine.copy_(given)
            self._graph.replay()
            result = self._output.clone()
            self._done.record(stream)
        return result

    def __del__(self) -> None:
        # Its memory must not go to others while the GPU works there.
        if done := getattr(self, "_done", None):
            done.synchronize()


class Graphs:
    """At most `limit` recordings, those used last; a shape is recorded when it comes again.

    `record`: makes a recording. Safe for several threads.
    """

    def __init__(
        self, limit: int, record: Callable[[Function, Sequence[torch.Tensor]], Replay] = CudaGraph
    ) -> None:
        self.limit = limit
        self._record = record
        self._lock = threading.Lock()
        self._recorded: OrderedDict[Hashable, Replay] = OrderedDict()
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._refused: set[Hashable] = set()  # what could not be recorded

    def __len__(self) -> int:
        return len(self._recorded)

    def __deepcopy__(self, memo: dict[int, Any]) -> Graphs:
        return Graphs(self.limit, self._record)  # recordings hold the addresses of the original

    def clear(self) -> None:
        """Forget all, since tensors that they read have moved or changed."""
        with self._lock:
            self._recorded.clear()
            self._seen.clear()
            self._refused.clear()

    def run(
        self, what: Hashable, function: Function, inputs: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Return what the function gives, replayed where `what` came with these shapes before."""
        key = (what, *((tuple(x.shape), x.stride(), x.dtype, x.device) for x in inputs))
        replay = self._find(key, function, inputs)
        return function(*inputs) if replay is None else replay(inputs)

    def _find(
        self, key: Hashable, function: Function, inputs: Sequence[torch.Tensor]
    ) -> Replay | None:
        with self._lock:
            if key in self._recorded:
                self._recorded.move_to_end(key)
                return self._recorded[key]
            if self.limit < 1 or key in self._refused:
                return None
            if key not in self._seen:
                self._seen[key] = None
                if len(self._seen) > SHAPES_REMEMBERED:
                    self._seen.popitem(last=False)
                return None
            while len(self._recorded) >= self.limit:
                # It has to come twice again: else shapes in turn would be recorded in turn.
                old, _ = self._recorded.popitem(last=False)
                self._seen.pop(old, None)
            try:
                self._recorded[key] = self._record(function, inputs)
            except torch.OutOfMemoryError:
                self._recorded.clear()
                self._refuse(key, inputs, "there is no memory for it")
                return None
            except RuntimeError as error:
                self._refuse(key, inputs, str(error).splitlines()[0])
                return None
            return self._recorded[key]

    def _refuse(self, key: Hashable, inputs: Sequence[torch.Tensor], why: str) -> None:
        self._refused.add(key)
        log.warning(
            "no CUDA graph for inputs of shape %s: %s. Every step is launched by itself, which "
            "takes longer",
            tuple(inputs[0].shape),
            why,
        )
