"""What many tests share. Everything runs on the CPU, without network, from what the tests make."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from helpers import photograph, tiny_edsr
from typer.main import get_command

from ptqsr import models, native

SHARED = Path(__file__).resolve().parents[2] / "shared"
# Of a test with more cases than these, a quarter runs: whole products of shapes, layouts and
# instruction sets are for `--all-cases`, as in .ci/run and on GPUs.
MANY_CASES = 16


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-cases", action="store_true", help="run every case of every test")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.all_cases or config.option.keyword or "::" in " ".join(config.args):
        return
    cases = Counter(_function(item) for item in items)
    runs, left_out = [], []
    for item in items:
        many = cases[_function(item)] > MANY_CASES and item.path.parent.name in ("cuda", "ops")
        (left_out if many and crc32(item.nodeid.encode()) % 4 else runs).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = runs


def pytest_collection_finish() -> None:
    """What is imported by now stays: collecting garbage, which takes long, need not look there."""
    gc.collect()
    gc.freeze()


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


@pytest.fixture(scope="session", autouse=True)
def commands_made_once() -> Iterator[None]:
    """Typer's runner makes every command anew before it runs one, which takes longer than most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", cache(get_command), raising=False)
        yield


@pytest.fixture
def shared() -> Path:
    """The project's pictures and weights, where they are at hand."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared: standard test pictures and the authors' weights")
    return SHARED


@pytest.fixture
def tiny() -> models.SRNetwork:
    """A small EDSR with random weights, always the same."""
    return tiny_edsr()


@pytest.fixture
def pictures() -> list[np.ndarray]:
    return [photograph(24, 30, seed) for seed in range(3)]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads cost small networks more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if native.cuda() is None:
        pytest.skip("this build has no CUDA kernels")
