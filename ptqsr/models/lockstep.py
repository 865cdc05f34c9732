"""Runs of a network that wait for each other before every layer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from ptqsr.models.observing import observing


class Lockstep:
    """Runs a network over pictures side by side, layer by layer, as a context.

    A layer may be changed between its inputs being known and its running, at the cost of one run
    for each picture. What all runs hold at a time is in memory. Every run has a thread of its own,
    but no two work at once: nothing depends on their order.
    """

    def __init__(
        self, network: nn.Module, layers: Mapping[str, nn.Module], inputs: Iterable[torch.Tensor]
    ) -> None:
        self._runs = [_Run(network, x) for x in inputs]
        self._observing = observing(layers, self._see)

    def __enter__(self) -> Lockstep:
        self._threads = torch.get_num_threads()
        self._observing.__enter__()
        try:
            for run in self._runs:
                run.start()
        except BaseException:  # the system gives no more threads
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for run in self._runs:
            run.go_on(over=True)
        self._observing.__exit__(None, None, None)
        # Threads to come take what was set last, be it in a run.
        torch.set_num_threads(self._threads)

    def advance(self) -> tuple[str, list[torch.Tensor]]:
        """Let every run go on to its next layer; return that layer's name and its inputs.

        The inputs are the runs' own tensors. Raises what a run raises, and EOFError where there is
        no layer any more.
        """
        for run in self._runs:
            run.go_on()
        for run in self._runs:
            if run.error is not None:
                raise run.error
            if run.at is None:
                raise EOFError("the network has run")
        places = [run.at for run in self._runs if run.at is not None]
        (name,) = {name for name, _ in places}
        return name, [x for _, x in places]

    def _see(self, name: str, x: torch.Tensor) -> None:
        run = threading.current_thread()
        if isinstance(run, _Run) and run in self._runs:
            run.wait((name, x))


class _Over(BaseException):
    """Nobody asks for the rest; not an Exception, which a network might catch."""


class _Run(threading.Thread):
    def __init__(self, network: nn.Module, x: torch.Tensor) -> None:
        super().__init__(daemon=True)
        self.network, self.x = network, x
        self.at: tuple[str, torch.Tensor] | None = None
        self.error: Exception | None = None
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._over = self.done = False

    def run(self) -> None:
        try:
            self._take_turn()
            torch.set_num_threads(1)  # PyTorch has a pool of them for every thread that asks
            with torch.no_grad():
                self.network(self.x)
        except _Over:
            pass
        except Exception as error:
            self.error = error
        self.at, self.done = None, True
        self._back.release()

    def wait(self, at: tuple[str, torch.Tensor]) -> None:
        """Show where the run is, and wait for its next turn."""
        self.at = at
        self._back.release()
        self._take_turn()

    def go_on(self, over: bool = False) -> None:
        """Give the run a turn and wait until it is over."""
        if self.ident is not None and not self.done:
            self._over = over
            self._turn.release()
            self._back.acquire()

    def _take_turn(self) -> None:
        self._turn.acquire()
        if self._over:
            raise _Over
