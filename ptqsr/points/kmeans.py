"""The paper's selector: k-means, then each centroid goes to the nearest universal value."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from ptqsr.points.loss import SubsetCost

INITIALISATIONS = 3  # DFSQ, section 3.2.3, Eq. 5


def kmeans(
    weights: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray,
    cost: SubsetCost,
    count: int,
    *,
    seed: int,
    threads: int,
) -> np.ndarray:
    """Return subsets [C, count] of ascending indices into `values`.

    One thread per channel: a fit's result does not depend on the number of threads.
    """

    def one(channel: int) -> np.ndarray:
        seen = weights[channel] > 0
        centroids = _centroids(weights[channel][seen], positions[seen], count, seed)
        chosen = np.unique(_nearest(values, centroids))
        return _fill(chosen, count, values, cost, channel)

    return np.stack(_per_channel(one, len(weights), threads))


def _per_channel(
    task: Callable[[int], np.ndarray], channels: int, threads: int
) -> list[np.ndarray]:
    # OpenMP's thread count belongs to the calling thread, so that each worker sets its own.
    pool = ThreadPoolExecutor(threads, initializer=threadpool_limits, initargs=(1, "openmp"))
    with pool:
        return list(pool.map(task, range(channels)))


def _centroids(weights: np.ndarray, positions: np.ndarray, count: int, seed: int) -> np.ndarray:
    if len(positions) <= count:
        return positions
    with warnings.catch_warnings():
        # Fewer distinct clusters than asked for: free places are filled later.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = KMeans(count, n_init=INITIALISATIONS, random_state=seed).fit(
            positions[:, None], sample_weight=weights
        )
    return fit.cluster_centers_[:, 0]


def _nearest(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the index of the nearest value; ties go to the smaller magnitude."""
    right = np.searchsorted(values, x).clip(1, len(values) - 1)
    left = right - 1
    to_left, to_right = np.abs(x - values[left]), np.abs(x - values[right])
    smaller = np.where(np.abs(values[left]) <= np.abs(values[right]), left, right)
    return np.where(to_left < to_right, left, np.where(to_left > to_right, right, smaller))


def _fill(
    chosen: np.ndarray, count: int, values: np.ndarray, cost: SubsetCost, channel: int
) -> np.ndarray:
    """Add values, each time the one that lowers the loss most, until there are `count`.

    Ties go to the smaller magnitude, then to the positive value.
    """
    while len(chosen) < count:
        free = np.setdiff1d(np.arange(len(values)), chosen)
        sets = np.sort(
            np.concatenate((np.broadcast_to(chosen, (len(free), len(chosen))), free[:, None]), 1), 1
        )
        inner = cost.between[channel][sets[:, :-1], sets[:, 1:]].sum(axis=1)
        loss = inner + cost.below[channel][sets[:, 0]] + cost.above[channel][sets[:, -1]]
        order = np.lexsort((-values[free], np.abs(values[free]), loss))
        chosen = sets[order[0]]
    return chosen
