"""The timer takes turns, and its ratios are those of the rounds."""

from __future__ import annotations

import time

import pytest

from ptqsr.benchmarking.timer import as_json, compare, machine


def test_turns_warm_up_and_ratios() -> None:
    calls: list[str] = []

    def work(name: str, seconds: float) -> None:
        calls.append(name)
        time.sleep(seconds)

    seen: list[int] = []
    first, second = compare(
        {"a": lambda: work("a", 0.002), "b": lambda: work("b", 0.006)},
        rounds=5,
        bytes_moved=1000,
        progress=seen.append,
    )
    assert calls == ["a", "b"] * 6 and seen == list(range(6))
    assert len(first.rounds_ms) == 5 and min(first.rounds_ms) >= 2
    assert 0 <= first.cpu_ms < second.median_ms  # asleep, not at work
    assert first.ratio == first.ratio_low == first.ratio_high == 1
    assert 1 < second.ratio_low <= second.ratio <= second.ratio_high
    assert first.gigabytes_per_second == pytest.approx(1e-6 / first.median_ms * 1e3)
    assert [row["name"] for row in as_json([first, second])] == ["a", "b"]


def test_machine() -> None:
    assert {"cpu", "cores", "torch", "command"} <= machine().keys()
