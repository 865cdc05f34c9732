"""Choosing a quantizer's points from a universal set."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from ptqsr.errors import PtqsrError
from ptqsr.points.kmeans import kmeans
from ptqsr.points.optimal import optimal
from ptqsr.points.universal import UniversalSet

Selector = Literal["kmeans", "optimal"]
SELECTORS: tuple[str, ...] = get_args(Selector)

# Times (2 * MAX_DENOMINATOR)^2 and the number of values it is still finite.
LARGEST_WEIGHT = 2.0**900


def select(
    weights: np.ndarray,
    positions: np.ndarray,
    universal_set: UniversalSet,
    bits: int,
    *,
    method: Selector = "kmeans",
    seed: int = 0,
) -> tuple[np.ndarray, float]:
    """Return (points, loss) for a weighted 1-D sample.

    `weights` [M] are non-negative, not all 0; `positions` [M] lie in [-1, 1] in any order. The
    points are 2^bits of the set's values (all of them where it has fewer), float64, ascending; the
    loss is the sum of weight * (position - nearest point)^2. `kmeans` is the paper's selector
    (DFSQ, section 3.2.3), `optimal` the exact minimum over all subsets. Raises PtqsrError for
    other input.

    >>> points, loss = select([1, 1], [0.0, 1.0], UniversalSet.preset("sq-2word"), 1)
    >>> points.tolist(), loss
    ([0.0, 1.0], 0.0)
    """
    weights, positions = np.asarray(weights, np.float64), np.asarray(positions, np.float64)
    if bits < 1:
        raise PtqsrError(f"bits is {bits}; it must be at least 1")
    if weights.ndim != 1 or weights.shape != positions.shape:
        raise PtqsrError(f"weights {weights.shape} and positions {positions.shape} must be [M]")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise PtqsrError("weights must be finite, non-negative and not all 0")
    if not weights.sum() < LARGEST_WEIGHT:
        raise PtqsrError(f"weights add up to {LARGEST_WEIGHT:g} or more; scale them down")
    if not (np.abs(positions) <= 1).all():
        raise PtqsrError("positions must lie in [-1, 1]")
    order = np.argsort(positions, kind="stable")
    index, loss = select_channels(
        weights[None, order], positions[order], universal_set, bits, method=method, seed=seed
    )
    return universal_set.values[index[0]], float(loss[0])


def select_channels(
    weights: np.ndarray,
    positions: np.ndarray,
    universal_set: UniversalSet,
    bits: int,
    *,
    method: str,
    seed: int,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (index [C, L], loss [C]) for weights [C, M] at shared, ascending positions [M].

    `index` points into the set's values. A channel without weight (it was constant on every
    picture) gets the points of all channels together. The result does not depend on `threads`.
    """
    if method not in SELECTORS:
        raise PtqsrError(f"selector {method!r} is unknown; choose {' or '.join(SELECTORS)}")
    weights = np.asarray(weights, np.float64)
    unseen = ~weights.any(axis=1)
    if unseen.any():
        pooled = weights.sum(axis=0)
        weights = weights.copy()
        # A tensor that was constant everywhere: any points do, those of a flat sample are sane.
        weights[unseen] = pooled if pooled.any() else 1.0
    count = universal_set.count(bits)
    if method == "optimal":
        index, loss = optimal(weights, positions, universal_set, count, threads)
    else:
        index, loss = kmeans(weights, positions, universal_set, count, seed, threads)
    return index, np.where(unseen, 0.0, loss / universal_set.denominator**2)
