"""Memory of one run, in this process and in one of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ptqsr.benchmarking import task_of
from ptqsr.benchmarking.memory import RESET, STATUS, peak_bytes, peak_of
from ptqsr.benchmarking.task import Task, Unavailable
from ptqsr.models import SRNetwork

pytestmark = pytest.mark.skipif(not RESET.exists(), reason="memory needs Linux's /proc")
MIB = 1 << 20


def test_the_peak_counts_and_what_was_there_does_not() -> None:
    kept = np.ones(32 * MIB, np.uint8)
    used = peak_of(lambda: int(np.ones(64 * MIB, np.uint8).sum()))
    assert kept.all() and 60 * MIB < used < 80 * MIB
    assert peak_of(lambda: None) < 2 * MIB


def test_a_larger_picture_takes_more(tiny: SRNetwork) -> None:
    small, large = (peak_bytes("float32", task_of(tiny, None, n, n)) for n in (32, 512))
    # 16 channels of the input's size, before and after a convolution
    assert large - small > 2 * 16 * 4 * (512**2 - 32**2) * 0.9


def test_why_there_is_none(
    tiny: SRNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(tiny, None, 16, 16)
    with pytest.raises(Unavailable, match="calibrate"):
        peak_bytes("fake-quantized", task)
    program = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(program))
    for line, why in (
        ("echo 'KeyError: 3' >&2; exit 1", "KeyError: 3"),
        ("exit 3", "exit code 3"),
        ("kill -9 $$", "was killed by signal 9"),
    ):
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        with pytest.raises(Unavailable, match=why):
            peak_bytes("float32", task)
    monkeypatch.setattr("ptqsr.benchmarking.memory.RESET", STATUS.parent / "no such file")
    with pytest.raises(Unavailable, match="needs Linux"):
        peak_of(lambda: None)


def test_a_task_goes_through_json(tiny: SRNetwork) -> None:
    task = task_of(tiny, None, 16, 20, batch=3)
    assert Task.from_json(task.to_json()) == task
    assert task.input().shape == (3, 3, 16, 20)
    assert torch.equal(task.input(), task.input())
    assert task.layers == tuple(f"body.{i}.body.{j}" for i in (0, 1) for j in (0, 2))
    assert task.network().state_dict().keys() == tiny.state_dict().keys()
