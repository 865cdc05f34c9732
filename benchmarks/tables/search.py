"""What selectors are compared on and with: real samples, exhaustive search, k-means on samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans

from ptqsr.calibration import ChannelRanges, NormalisedHistogram
from ptqsr.models import SRNetwork, observing
from ptqsr.points import UniversalSet
from ptqsr.points.loss import subset_cost

# Of exhaustive search: combinations that are looked at, at most, and at once.
LIMIT, BLOCK = 10_000_000, 1 << 16
PICTURE = 1 << 16  # samples that are counted at once


def activation(
    model: SRNetwork, pictures: Sequence[np.ndarray], layer: str, channel: int
) -> list[torch.Tensor]:
    """Return one channel of what a layer reads, [1, 1, H, W] of every picture."""
    seen: list[torch.Tensor] = []

    def take(_: str, x: torch.Tensor) -> None:
        seen.append(x[:, channel : channel + 1].clone())

    with torch.no_grad(), observing({layer: model.get_submodule(layer)}, take):
        for picture in pictures:
            model(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
    return seen


def normalised(seen: Sequence[torch.Tensor]) -> np.ndarray:
    """Return all values (x - mean) / scale, mean and scale those of their picture."""
    ranges = ChannelRanges(1)
    for x in seen:
        ranges.update(x)
    flat = [x.flatten().double() for x in seen]
    if not ranges.nonnegative:
        flat = [x - x.mean() for x in flat]
    return torch.cat([x / x.abs().max() for x in flat if x.any()]).numpy()


def histogram(z: np.ndarray, denominator: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (weights, positions) of values that are normalised already, as calibration counts:
    so many at once as a picture has.
    """
    counted = NormalisedHistogram(torch.ones(1, dtype=torch.bool), denominator)
    parts = np.array_split(z, -(-len(z) // PICTURE))
    for part in parts:
        # Of largest magnitude 1, so that the mean kept at 0 and the scale 1 change nothing.
        x = np.concatenate((part, (-1.0, 1.0))).astype(np.float32)
        counted.update(torch.from_numpy(x).view(1, 1, 1, -1))
    weights = counted.counts[0].double().numpy()
    weights[[0, -1]] -= len(parts)
    return weights, counted.centres.numpy()


def combinations(universal_set: UniversalSet, bits: int) -> int:
    return math.comb(len(universal_set.integers), 1 << bits)


def exhaustive(
    weights: np.ndarray, positions: np.ndarray, universal_set: UniversalSet, bits: int
) -> tuple[np.ndarray, float]:
    """Return (points, loss) as `ptqsr.points.select`, from looking at every subset (DFSQ, 3.2.2).

    Every one's loss is the sum of 2^bits numbers: about as cheap as it can be.
    """
    cost = subset_cost(weights[None], positions, universal_set)
    size, count = len(universal_set.integers), 1 << bits
    subsets = itertools.chain.from_iterable(itertools.combinations(range(size), count))
    best, chosen = np.inf, np.arange(count)
    while len(block := np.fromiter(itertools.islice(subsets, BLOCK * count), np.int64)):
        block = block.reshape(-1, count)
        loss = cost.loss(block, np.zeros(len(block), np.int64))
        least = loss.argmin()
        if loss[least] < best:
            best, chosen = loss[least], block[least]
    return universal_set.values[chosen], float(best) / universal_set.denominator**2


def k_means_of_samples(z: np.ndarray, universal_set: UniversalSet, bits: int) -> np.ndarray:
    """The paper's way: all samples to scikit-learn, then the nearest value for each centroid."""
    fit = KMeans(1 << bits, n_init=3, random_state=0).fit(z[:, None])
    nearest = np.abs(fit.cluster_centers_ - universal_set.values).argmin(axis=1)
    return np.unique(universal_set.values[nearest])


def mean_loss(z: np.ndarray, points: np.ndarray) -> float:
    """Return the mean of (z - nearest point)^2."""
    return float(((z - points[np.searchsorted((points[1:] + points[:-1]) / 2, z)]) ** 2).mean())
