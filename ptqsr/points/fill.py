"""Filling places that a selector has no use for."""

from __future__ import annotations

import numpy as np

from ptqsr.points.loss import SubsetCost


def fill(
    chosen: np.ndarray, count: int, values: np.ndarray, cost: SubsetCost, channel: int
) -> np.ndarray:
    """Add ascending indices into `values`, each time the one that lowers the loss most.

    Until there are `count`; ties go to the smaller magnitude, then to the positive value.
    """
    while len(chosen) < count:
        free = np.setdiff1d(np.arange(len(values)), chosen)
        sets = np.sort(
            np.concatenate((np.broadcast_to(chosen, (len(free), len(chosen))), free[:, None]), 1), 1
        )
        loss = cost.loss(sets, np.full(len(sets), channel))
        order = np.lexsort((-values[free], np.abs(values[free]), loss))
        chosen = sets[order[0]]
    return chosen
