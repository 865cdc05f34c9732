"""The quantization loss of weighted samples, in the form that both selectors use.

A subset of the universal set, sorted, splits the line at the midpoints of neighbours. So its loss
is a sum over neighbours of `between`, plus what lies outside the outermost points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ptqsr.points.universal import UniversalSet


@dataclass(frozen=True)
class SubsetCost:
    """Losses in units of (position * D)^2, float64, for C channels and U universal values.

    `below[c, i]`: of the mass left of value i sent to i; `above[c, i]` likewise to the right;
    `between[c, i, j]`, i < j: of the mass between values i and j, each part sent to the nearer.
    """

    below: np.ndarray
    above: np.ndarray
    between: np.ndarray

    def loss(self, index: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """Return the loss [N] of subsets [N, L] of ascending indices, each in its channel [N]."""
        channel = channels[:, None]
        first, inner, last = (
            self.below[channel, index[:, :1]],
            self.between[channel, index[:, :-1], index[:, 1:]],
            self.above[channel, index[:, -1:]],
        )
        # Added up from left to right, as native code does; `sum` has an order of its own.
        return np.cumsum(np.concatenate((first, inner, last), axis=1), axis=1)[:, -1]


def subset_cost(
    weights: np.ndarray, positions: np.ndarray, universal_set: UniversalSet
) -> SubsetCost:
    """Return the losses for weights [C, M] at ascending positions [M] in [-1, 1].

    By prefix sums of weight, weight * x and weight * x^2, as DESIGN's `optimal` asks.
    """
    k = universal_set.integers.astype(np.float64)
    x = positions * universal_set.denominator
    moments = np.stack([weights, weights * x, weights * x * x])
    prefix = np.concatenate((np.zeros((3, len(weights), 1)), np.cumsum(moments, axis=2)), axis=2)

    def loss(start: np.ndarray, stop: np.ndarray, to: np.ndarray) -> np.ndarray:
        """Loss of the samples with index in [start, stop), all sent to the value `to`."""
        m0, m1, m2 = prefix[:, :, stop] - prefix[:, :, start]
        return np.maximum(m2 - 2 * to * m1 + to * to * m0, 0)

    at_value = np.searchsorted(x, k)
    middle = np.searchsorted(x, (k[:, None] + k[None, :]) / 2)
    first, last = np.zeros_like(at_value), np.full_like(at_value, len(x))
    return SubsetCost(
        below=loss(first, at_value, k),
        above=loss(at_value, last, k),
        between=loss(at_value[:, None], middle, k[:, None])
        + loss(middle, at_value[None, :], k[None, :]),
    )
