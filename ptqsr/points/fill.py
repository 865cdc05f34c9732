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
        inner = cost.between[channel][sets[:, :-1], sets[:, 1:]].sum(axis=1)
        loss = inner + cost.below[channel][sets[:, 0]] + cost.above[channel][sets[:, -1]]
        order = np.lexsort((-values[free], np.abs(values[free]), loss))
        chosen = sets[order[0]]
    return chosen
