"""The exact selector: a shortest path through the sorted universal values."""

from __future__ import annotations

import numpy as np

from ptqsr.points.fill import fill
from ptqsr.points.loss import SubsetCost


def optimal(
    weights: np.ndarray, positions: np.ndarray, values: np.ndarray, cost: SubsetCost, count: int
) -> np.ndarray:
    """Return the subsets [C, count] of ascending indices with the smallest loss of all.

    Points that no sample goes to are free: they are chosen by `fill`'s rule.
    """
    paths = _shortest_paths(cost, count)
    subsets = []
    for channel, path in enumerate(paths):
        borders = np.searchsorted(positions, (values[path[:-1]] + values[path[1:]]) / 2)
        used = [part.any() for part in np.split(weights[channel], borders)]
        subsets.append(fill(path[used], count, values, cost, channel))
    return np.stack(subsets)


def _shortest_paths(cost: SubsetCost, count: int) -> np.ndarray:
    """best[j] after m steps is the smallest loss of everything left of value j with m points, the
    last of them j: O(count |U|^2) per channel.
    """
    channels, size = cost.below.shape
    # A step may only go up: from value i (last axis) to a larger value j.
    barred = np.where(np.tri(size, k=-1, dtype=bool), 0.0, np.inf)
    step = np.swapaxes(cost.between, 1, 2) + barred
    best = cost.below
    came_from = np.empty((count - 1, channels, size), dtype=np.int64)
    total = np.empty_like(step)
    for m in range(count - 1):
        np.add(best[:, None, :], step, out=total)
        np.argmin(total, axis=2, out=came_from[m])
        best = np.take_along_axis(total, came_from[m][..., None], axis=2)[..., 0]
    index = np.empty((channels, count), dtype=np.int64)
    index[:, -1] = (best + cost.above).argmin(axis=1)
    for m in range(count - 2, -1, -1):
        index[:, m] = came_from[m][np.arange(channels), index[:, m + 1]]
    return index
