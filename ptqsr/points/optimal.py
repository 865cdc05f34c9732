"""The exact selector: a shortest path through the sorted universal values.

`optimal` is native where the native module is there; `reference` defines what it returns.
"""

from __future__ import annotations

import numpy as np

from ptqsr import native
from ptqsr.points.fill import fill
from ptqsr.points.loss import SubsetCost, subset_cost
from ptqsr.points.universal import UniversalSet


def optimal(
    weights: np.ndarray,
    positions: np.ndarray,
    universal_set: UniversalSet,
    count: int,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (index [C, count], loss [C]): the subsets of ascending indices of the smallest loss.

    `weights` [C, M] are finite and non-negative, at shared, ascending `positions` [M] in [-1, 1];
    the loss is in units of (position * D)^2. Points that no sample goes to are free: they are
    chosen by `fill`'s rule. Raises ValueError for shapes that do not fit.
    """
    size = len(universal_set.integers)
    if weights.ndim != 2 or positions.shape != weights.shape[1:] or not 1 <= count <= size:
        raise ValueError(
            f"optimal: weights {weights.shape} must be [C, M], positions {positions.shape} [M], "
            f"and count, {count}, from 1 to {size}"
        )
    module = native.load()
    if module is None:
        return reference(weights, positions, universal_set, count)
    weights = np.ascontiguousarray(weights, np.float64)
    x = np.ascontiguousarray(positions, np.float64) * universal_set.denominator
    index = np.empty((len(weights), count), np.int64)
    loss = np.empty(len(weights))
    buffers = (weights, x, universal_set.integers, index, loss)
    module.optimal_points(
        *(buffer.ctypes.data for buffer in buffers),
        *weights.shape,
        size,
        count,
        universal_set.denominator,
        threads,
    )
    return index, loss


def reference(
    weights: np.ndarray, positions: np.ndarray, universal_set: UniversalSet, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same in numpy, on one thread."""
    x, k = positions * universal_set.denominator, universal_set.integers
    # Blocks of channels whose U x U losses stay in a core's cache, or at least small.
    size = max(1, min(8, (1 << 20) // len(k) ** 2))
    subsets, losses = [], []
    for block in (weights[start : start + size] for start in range(0, len(weights), size)):
        cost = subset_cost(block, positions, universal_set)
        index = _shortest_paths(cost, count)
        if count < len(k):
            for channel, path in enumerate(index):
                borders = np.searchsorted(x, (k[path[:-1]] + k[path[1:]]) / 2)
                used = [part.any() for part in np.split(block[channel], borders)]
                index[channel] = fill(path[used], count, k, cost, channel)
        subsets.append(index)
        losses.append(cost.loss(index, np.arange(len(index))))
    return np.concatenate(subsets), np.concatenate(losses)


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
