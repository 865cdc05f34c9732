"""The paper's selector: k-means, then each centroid goes to the nearest universal value."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans

from ptqsr.points.fill import fill
from ptqsr.points.loss import SubsetCost

INITIALISATIONS = 3  # DFSQ, section 3.2.3, Eq. 5


def kmeans(
    weights: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray,
    cost: SubsetCost,
    count: int,
    seed: int,
) -> np.ndarray:
    """Return subsets [C, count] of ascending indices into `values`."""
    subsets = []
    for channel, row in enumerate(weights):
        seen = row > 0
        centroids = _centroids(row[seen], positions[seen], count, seed)
        chosen = np.unique(_nearest(values, centroids))
        subsets.append(fill(chosen, count, values, cost, channel))
    return np.stack(subsets)


def _centroids(weights: np.ndarray, positions: np.ndarray, count: int, seed: int) -> np.ndarray:
    if len(positions) <= count:
        return positions
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
