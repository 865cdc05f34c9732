"""The emulation finds what is wrong with a kernel."""

from __future__ import annotations

import os

import pytest
import torch

from .conftest import Emulated

SEEDS = range(4)


def reverse(emulated: Emulated, fault: str, seed: int) -> bool:
    """Whether a kernel with a fault reverses every 64 of 256 values."""
    emulated.module.emulate(seed, 80)
    x = torch.arange(256, dtype=torch.int32)
    y = torch.full_like(x, -1)
    emulated.module.reverse(x.data_ptr(), y.data_ptr(), 4, fault)
    return torch.equal(y, x.view(4, 64).flip(1).reshape(-1))


@pytest.mark.parametrize("seed", SEEDS)
def test_right(emulated: Emulated, seed: int) -> None:
    assert reverse(emulated, "none", seed)


@pytest.mark.parametrize("fault", ["wrong_index", "missing_barrier", "missing_wait"])
def test_wrong_results(emulated: Emulated, fault: str) -> None:
    try:
        assert not all(reverse(emulated, fault, seed) for seed in SEEDS)
    except RuntimeError as error:
        assert fault == "missing_wait" and "nobody waited for" in str(error)


@pytest.mark.parametrize(
    "fault, words",
    [
        ("parted_warp", "lanes of a warp part"),
        ("barrier_of_some", "threads wait for each other: 32 at synchronize, 32 at the end"),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_threads_that_miss_each_other(
    emulated: Emulated, fault: str, words: str, seed: int
) -> None:
    with pytest.raises(RuntimeError, match=words):
        reverse(emulated, fault, seed)


@pytest.mark.parametrize("fault", ["beyond_shared", "beyond_global"])
def test_addresses_out_of_bounds(emulated: Emulated, fault: str) -> None:
    """The address sanitizer ends the process."""
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("only the address sanitizer sees it")
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        reverse(emulated, fault, 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
