"""A thousand pictures of random sizes from several threads: all right, and no memory is lost."""

from __future__ import annotations

import gc
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from .cases import deployed, picture

PICTURES, THREADS = 1000, 4
STATUS = Path("/proc/self/status")


def resident() -> int:
    """Bytes of memory that the process has."""
    gc.collect()
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10


@pytest.mark.skipif(not STATUS.exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("method", ["dfsq4", "minmax8"])
@torch.no_grad()
def test_a_thousand_pictures(method: str) -> None:
    ours = deployed("edsr", method)
    draw = random.Random(0)
    sizes = [(draw.randint(1, 48), draw.randint(1, 48)) for _ in range(40)]
    pictures = [picture(ours, *size, seed=i) for i, size in enumerate(sizes)]
    expected = [ours(x) for x in pictures]

    def work(seed: int, count: int) -> int:
        mine = random.Random(seed)
        wrong = 0
        with torch.no_grad():
            for _ in range(count):
                i = mine.randrange(len(pictures))
                wrong += not torch.equal(ours(pictures[i]), expected[i])
        return wrong

    levels = []
    with ThreadPoolExecutor(THREADS) as pool:
        for start in (0, 100, 200, 300):
            each = PICTURES // 4 // THREADS + 1
            assert sum(pool.map(work, range(start, start + THREADS), [each] * THREADS)) == 0
            levels.append(resident())
    # The first quarter fills what allocators keep.
    assert levels[-1] < levels[0] + (24 << 20), levels
