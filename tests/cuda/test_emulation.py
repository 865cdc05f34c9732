"""The emulation finds what is wrong with a kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from .conftest import Emulated

SEEDS = range(4)
SCHEDULES = ["drawn", "even", "one_ahead", "one_late", "last_first"]
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")


def reverse(
    emulated: Emulated, fault: str, seed: int, schedule: str = "drawn", races: bool = False
) -> bool:
    """Whether a kernel with a fault reverses every 64 of 256 values; looks for races or not."""
    emulated.module.emulate(seed, 80, schedule, races)
    x = torch.arange(256, dtype=torch.int32)
    y = torch.full_like(x, -1)
    emulated.module.reverse(x.data_ptr(), y.data_ptr(), 4, fault)
    return torch.equal(y, x.view(4, 64).flip(1).reshape(-1))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("fault", ["none", "teams", "rounds"])
def test_right(emulated: Emulated, fault: str, schedule: str, seed: int) -> None:
    assert reverse(emulated, fault, seed, schedule, True)


@pytest.mark.parametrize(
    "fault",
    [
        "wrong_index", "missing_barrier", "missing_wait", "missing_team_barrier", "half_a_team",
        "overwritten_buffer",
    ],
)  # fmt: skip
def test_wrong_results(emulated: Emulated, fault: str) -> None:
    try:
        assert not all(reverse(emulated, fault, seed) for seed in SEEDS)
    except RuntimeError as error:
        assert fault == "missing_wait" and "nobody waited for" in str(error)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_race_over_a_distance(emulated: Emulated, schedule: str) -> None:
    """Where warps keep step, none overwrites what another reads some steps earlier."""
    found = not all(reverse(emulated, "overwritten_buffer", seed, schedule) for seed in range(20))
    assert found == (schedule != "even")


RACES = {
    "missing_barrier": r"thread \d+ (reads|writes) byte \d+ of shared memory, which thread \d+ "
    "(read|wrote), with no barrier between|.* where a copy by thread",
    "missing_wait": r"thread \d+ reads byte \d+ .*, where a copy by thread \d+ was not waited for",
    "missing_team_barrier": ".* with no barrier between",
    "half_a_team": ".* with no barrier between",
    "overwritten_buffer": "thread .* writes .* read, with|thread .* reads .* wrote, with",
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("fault", RACES)
def test_races(emulated: Emulated, fault: str, schedule: str) -> None:
    """Found by what is ordered, so in every order: also where the results are right."""
    if not emulated.module.finds_races:
        pytest.skip("this build does not look for races: another compiler, or a sanitizer")
    for seed in range(20):
        with pytest.raises(RuntimeError, match=r"block \(\d, 0\): a race: (" + RACES[fault] + ")"):
            reverse(emulated, fault, seed, schedule, True)


MESSAGES = {
    "parted_warp": "lanes of a warp part: some at (shuffle, some at ballot|ballot, some at shuf)",
    "parted_kinds": "lanes of a warp part: some at shuffle, some at another of its kinds",
    "barrier_of_some": "threads wait for each other: 32 at synchronize, 32 at the end$",
    "different_counts": r"thread \d+ of block .*: synchronize_some\([12], (64|96)\): others wait "
    "there for (64|96) threads",
    "absent_team": r"wait for each other: 64 at synchronize_some\(1, 128\), 64 at the end$",
    "no_such_barrier": r"synchronize_some\((0|16), 64\): barriers are 1 to 15",
    "parts_of_warps": r"synchronize_some\([12], 63\): whole warps come to a barrier",
    "too_many_threads": r"synchronize_some\([12], 192\): a block has fewer threads",
}


@pytest.mark.parametrize("fault", MESSAGES)
@pytest.mark.parametrize("seed", SEEDS)
def test_threads_that_miss_each_other(emulated: Emulated, fault: str, seed: int) -> None:
    with pytest.raises(RuntimeError, match=MESSAGES[fault]):
        reverse(emulated, fault, seed)
    assert reverse(emulated, "none", seed)


def test_a_launch_that_fails_leaves_nothing_behind(emulated: Emulated) -> None:
    """Fibers end, and the stacks of all are used again."""

    def fail() -> None:
        for seed in range(50):
            for fault in ("parted_warp", "barrier_of_some", "absent_team"):
                with pytest.raises(RuntimeError):
                    reverse(emulated, fault, seed)

    def regions() -> int:
        return len(Path("/proc/self/maps").read_text().splitlines())

    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux says what a process has mapped")
    fail()
    before = regions()
    fail()
    assert regions() <= before + 20


def test_threads_of_the_host_have_machines_of_their_own(emulated: Emulated) -> None:
    right: list[bool] = []
    threads = [
        threading.Thread(target=lambda s=seed: right.append(reverse(emulated, "none", s)))
        for seed in SEEDS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * len(threads)


CHILD = """
import torch
from ptqsr import _emulated
x, y = torch.zeros(256, dtype=torch.int32), torch.zeros(256, dtype=torch.int32)
_emulated.emulate(1, 80)
_emulated.reverse(x.data_ptr(), y.data_ptr(), 4, "{}")
print("came to the end")
"""


def outcome(fault: str) -> subprocess.CompletedProcess[str]:
    """Run a kernel that may end its process."""
    return subprocess.run(
        [sys.executable, "-c", CHILD.format(fault)], capture_output=True, text=True
    )


@pytest.mark.parametrize("fault, kind", [("beyond_shared", "READ"), ("beyond_global", "WRITE")])
def test_addresses_out_of_bounds(emulated: Emulated, fault: str, kind: str) -> None:
    """The address sanitizer ends the process, and says why."""
    if not SANITIZED:
        pytest.skip("only the address sanitizer sees it")
    child = outcome(fault)
    assert child.returncode != 0 and "came to the end" not in child.stdout
    assert "ERROR: AddressSanitizer: heap-buffer-overflow" in child.stderr
    assert f"{kind} of size 4" in child.stderr


def test_a_stack_that_overflows(emulated: Emulated) -> None:
    """It ends the process rather than write over what lies below."""
    child = outcome("too_deep")
    if SANITIZED:
        assert "ERROR: AddressSanitizer: stack-overflow" in child.stderr
    else:
        assert child.returncode == -signal.SIGSEGV
