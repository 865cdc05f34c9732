"""The paper's selector: k-means, then each centroid goes to the nearest universal value."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from ptqsr.points.fill import fill
from ptqsr.points.loss import subset_cost
from ptqsr.points.universal import UniversalSet

INITIALISATIONS = 3  # DFSQ, section 3.2.3, Eq. 5


def kmeans(
    weights: np.ndarray,
    positions: np.ndarray,
    universal_set: UniversalSet,
    count: int,
    seed: int,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (index [C, count], loss [C]), arguments and units as in `optimal`."""
    # It takes long to import, and few commands need it. The pool limits the OpenMP that it loads.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    def solve(channel: int) -> tuple[np.ndarray, np.ndarray]:
        row = weights[channel : channel + 1]
        cost = subset_cost(row, positions, universal_set)
        index = np.arange(count)
        if count < len(universal_set.integers):
            seen = row[0] > 0
            centroids = positions[seen]
            if len(centroids) > count:
                fit = KMeans(count, n_init=INITIALISATIONS, random_state=seed)
                fit.fit(centroids[:, None], sample_weight=row[0, seen])
                centroids = fit.cluster_centers_[:, 0]
            chosen = np.unique(_nearest(universal_set.values, centroids))
            index = fill(chosen, count, universal_set.integers, cost, 0)
        return index, cost.loss(index[None], np.zeros(1, np.int64))[0]

    # OpenMP's thread count belongs to the calling thread, so that each worker sets its own: a
    # k-means fit on several threads would depend on their number.
    pool = ThreadPoolExecutor(threads, initializer=threadpool_limits, initargs=(1, "openmp"))
    with pool, warnings.catch_warnings():
        # Fewer distinct clusters than asked for: free places are filled.
        warnings.simplefilter("ignore", ConvergenceWarning)
        subsets, losses = zip(*pool.map(solve, range(len(weights))), strict=True)
    return np.stack(subsets), np.stack(losses)


def _nearest(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the index of the nearest value; ties go to the smaller magnitude."""
    right = np.searchsorted(values, x).clip(1, len(values) - 1)
    left = right - 1
    to_left, to_right = np.abs(x - values[left]), np.abs(x - values[right])
    smaller = np.where(np.abs(values[left]) <= np.abs(values[right]), left, right)
    return np.where(to_left < to_right, left, np.where(to_left > to_right, right, smaller))
