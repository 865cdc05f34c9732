"""Stages that work at one time."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from ptqsr.jobs import overlapped


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_bounds_and_order(ahead: int) -> None:
    """At most `ahead` items are read too early, and so many wait; `make` is the caller's."""
    read, made, written, caller = [], [], [], threading.get_ident()

    def reading(item: int) -> int:
        assert threading.get_ident() != caller
        read.append(item)
        assert len(read) - len(made) <= ahead + 1
        return item * 10

    def making(item: int, found: int) -> int:
        assert threading.get_ident() == caller and found == item * 10
        assert len(made) - len(written) <= ahead + 1
        time.sleep(0.002)
        made.append(item)
        return found + 1

    def writing(item: int, found: int) -> int:
        assert found == item * 10 + 1
        time.sleep(0.004)
        written.append(item)
        return -item

    stages = overlapped(range(8), reading, making, writing, ahead=ahead)
    assert [(item, future.result()) for item, future in stages] == [(n, -n) for n in range(8)]
    assert read == made == written == list(range(8))


def test_stages_overlap() -> None:
    """While one item is made, the next is read and the last is written."""
    meeting = threading.Barrier(3, timeout=10)

    def read(item: int) -> None:
        if item == 2:
            meeting.wait()

    def make(item: int, _: None) -> None:
        if item == 1:
            meeting.wait()

    def write(item: int, _: None) -> None:
        if item == 0:
            meeting.wait()

    for _, future in overlapped(range(4), read, make, write, ahead=1):
        future.result()


@pytest.mark.parametrize("stage", ["read", "make", "write"])
def test_a_failure_stops_nothing_else(stage: str) -> None:
    def act(name: str, item: int) -> int:
        if (name, item) == (stage, 1):
            raise ValueError(f"{name} {item}")
        return item

    stages = overlapped(
        range(4),
        lambda item: act("read", item),
        lambda item, _: act("make", item),
        lambda item, _: act("write", item),
        ahead=2,
    )
    errors = [future.exception() for _, future in stages]
    assert [str(error) for error in errors] == ["None", f"{stage} 1", "None", "None"]


def test_stopping_in_between_finishes_what_is_being_written() -> None:
    """And begins nothing else."""
    begun, finished = [], []

    def write(item: int, _: object) -> None:
        begun.append(item)
        time.sleep(0.05)
        finished.append(item)

    stages = overlapped(range(100), lambda item: item, lambda item, _: item, write, ahead=2)
    with closing(stages), pytest.raises(KeyboardInterrupt):
        next(stages)
        raise KeyboardInterrupt
    assert begun == finished and len(finished) <= 3
    assert not [t for t in threading.enumerate() if t.name.startswith(("read_", "write_"))]
