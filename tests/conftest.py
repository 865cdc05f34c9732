"""What many tests share. Everything runs on the CPU, without network, from what the tests make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import photograph, tiny_edsr

from ptqsr import models, native

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
