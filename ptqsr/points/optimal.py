"""The exact selector: a shortest path through the sorted universal values."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ptqsr.points.loss import SubsetCost

BLOCK = 8  # channels whose U x U losses stay in a core's cache together


def optimal(cost: SubsetCost, count: int, *, threads: int = 1) -> np.ndarray:
    """Return the subsets [C, count] of ascending indices with the smallest loss of all.

    best[j] after m steps is the smallest loss of everything left of value j with m points, the
    last of them j: O(count |U|^2) per channel.
    """
    channels, size = cost.below.shape
    index = np.empty((channels, count), dtype=np.int64)
    # A step may only go up: from value i (last axis) to a larger value j.
    barred = np.where(np.tri(size, k=-1, dtype=bool), 0.0, np.inf)

    def solve(start: int) -> None:
        block = slice(start, min(start + BLOCK, channels))
        step = np.swapaxes(cost.between[block], 1, 2) + barred
        best = cost.below[block]
        came_from = np.empty((count - 1, *best.shape), dtype=np.int64)
        total = np.empty_like(step)
        for m in range(count - 1):
            np.add(best[:, None, :], step, out=total)
            np.argmin(total, axis=2, out=came_from[m])
            best = np.take_along_axis(total, came_from[m][..., None], axis=2)[..., 0]
        index[block, -1] = (best + cost.above[block]).argmin(axis=1)
        for m in range(count - 2, -1, -1):
            index[block, m] = came_from[m][np.arange(len(best)), index[block, m + 1]]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(solve, range(0, channels, BLOCK)))
    return index
