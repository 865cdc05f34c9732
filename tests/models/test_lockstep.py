"""Runs that wait for each other."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from ptqsr.models import Lockstep

NET = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
LAYERS = {"0": NET[0], "3": NET[3]}


def test_layers_may_change_before_they_run() -> None:
    inputs = [torch.full((1, 2), float(i)) for i in range(3)]
    with torch.no_grad(), Lockstep(NET, LAYERS, inputs) as runs:
        name, given = runs.advance()
        assert name == "0" and all(torch.equal(a, b) for a, b in zip(given, inputs, strict=True))
        kept = NET[0].bias.clone()
        NET[0].bias += 1
        name, given = runs.advance()
        assert name == "3" and len(given) == 3
        for x, found in zip(inputs, given, strict=True):
            assert torch.equal(found, NET[2](NET[1](NET[0](x))))
        NET[0].bias.copy_(kept)
        with pytest.raises(EOFError):
            runs.advance()


def test_nothing_is_left_behind() -> None:
    """Neither threads nor hooks, wherever one stops; an error is the caller's."""
    before = threading.active_count()
    with Lockstep(NET, LAYERS, [torch.zeros(1, 2)] * 4) as runs:
        runs.advance()
    with (
        pytest.raises(RuntimeError, match="shapes"),
        Lockstep(NET, LAYERS, [torch.zeros(1, 3)]) as r,
    ):
        r.advance()
        r.advance()
    assert not any(layer._forward_pre_hooks for layer in NET)
    for thread in threading.enumerate():
        if type(thread).__name__ == "_Run":
            thread.join(5)
    assert threading.active_count() == before


def test_nothing_is_left_where_the_system_gives_no_more_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = threading.active_count()
    start = threading.Thread.start

    def few(thread: threading.Thread) -> None:
        if threading.active_count() == before + 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    runs = Lockstep(NET, LAYERS, [torch.zeros(1, 2)] * 4)
    monkeypatch.setattr(threading.Thread, "start", few)
    with pytest.raises(RuntimeError, match="can't start new thread"), runs:
        pass
    monkeypatch.undo()
    assert not any(layer._forward_pre_hooks for layer in NET)
    for run in runs._runs[:2]:
        run.join(5)
    assert threading.active_count() == before


def test_threads_to_come_have_their_number_of_threads() -> None:
    threads = torch.get_num_threads()
    seen: list[int] = []
    try:
        torch.set_num_threads(3)
        with Lockstep(NET, LAYERS, [torch.zeros(1, 2)]) as runs:
            runs.advance()
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [torch.get_num_threads()] == [3]
    finally:
        torch.set_num_threads(threads)
