"""One option of every owner's, the cheapest under a limit: an integer program, solved by HiGHS."""

from __future__ import annotations

import numpy as np

# How far from the best, relatively, a choice may be proven to be no farther.
GAP = 1e-6
# HiGHS takes so much, beside numbers of 1, for nothing; sums of ours are rounded by less.
TOLERANCE, ROUNDING = 1e-6, 1e-12


def cheapest(
    cost: np.ndarray, weight: np.ndarray, limit: float, owner: np.ndarray
) -> np.ndarray | None:
    """Return which options to take, bool, so that the cost is least and the weight within a limit.

    Of every option: cost and weight, float64, and whose it is, 0 to owners - 1. None where no
    choice keeps to the limit.

    Costs may span more digits than HiGHS tells apart. So numbers are counted from every owner's
    least, options are left out that alone weigh or cost more than a whole answer may, and what is
    left is scaled to 1; a better answer leaves out more, until nothing is gained.
    """
    best = _lightest(weight, owner)
    if weight[best].sum() > limit * (1 + ROUNDING):
        return None
    possible = np.ones(len(owner), bool)
    while True:
        heavier, dearer = (_beyond_least(values, owner, possible) for values in (weight, cost))
        room = limit - (weight[best] - heavier[best]).sum()
        spare = dearer[best].sum()
        if spare <= ROUNDING * np.abs(cost[best]).sum():
            return best
        possible &= (heavier <= room + ROUNDING * limit) & (dearer <= spare * (1 + ROUNDING))
        unit = room if room > ROUNDING * limit else 1.0
        found = _solve(dearer / spare, heavier / unit, room / unit, owner, possible)
        if found is not None and weight[found].sum() > limit * (1 + ROUNDING):
            tightened = room / unit - 2 * TOLERANCE
            found = _solve(dearer / spare, heavier / unit, tightened, owner, possible)
        if found is None or cost[found].sum() >= cost[best].sum():
            return best
        best = found
        if dearer[best].sum() > spare / 10:
            return best


def _lightest(weight: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return every owner's option of least weight, bool."""
    order = np.lexsort((weight, owner))
    first = np.diff(owner[order], prepend=-1) > 0
    chosen = np.zeros(len(owner), bool)
    chosen[order[first]] = True
    return chosen


def _beyond_least(values: np.ndarray, owner: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """Return how much more each option has than its owner's least possible one."""
    least = np.full(owner.max() + 1, np.inf)
    np.minimum.at(least, owner[possible], values[possible])
    return values - least[owner]


def _solve(
    cost: np.ndarray, weight: np.ndarray, limit: float, owner: np.ndarray, possible: np.ndarray
) -> np.ndarray | None:
    """Return HiGHS' answer, None where it has none; numbers of what is possible are 0 to 1."""
    # They take long to import, and few commands need them.
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    one_each = csr_array((np.ones(len(owner)), (owner, np.arange(len(owner)))))
    result = milp(
        np.where(possible, cost, 0),
        integrality=np.ones(len(owner)),
        bounds=Bounds(0, possible.astype(float)),
        constraints=[
            LinearConstraint(one_each, 1, 1),  # type: ignore[arg-type]
            LinearConstraint(np.where(possible, weight, 0)[None], -np.inf, limit),
        ],
        options={"mip_rel_gap": GAP},
    )
    return None if result.x is None else result.x > 0.5
