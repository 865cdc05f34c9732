"""A network that sees a picture patch by patch, as CADyQ's is used."""

from __future__ import annotations

from math import prod

import torch

from ptqsr.errors import PtqsrError
from ptqsr.models.base import SRNetwork

PATCH, OVERLAP = 96, 6
MIN_PATCH = 8


class PatchWise(SRNetwork):
    """Runs a network on patches that overlap, `batch` of them at a time.

    `patch`, `overlap`: in input pixels. The last patch of a row or column begins where it fits, so
    that it overlaps more; a picture smaller than a patch is one. Where patches overlap, the output
    is their mean, as in the code of ClassSR (Kong et al., CVPR 2021) that CADyQ's builds on.
    """

    def __init__(
        self, network: SRNetwork, *, patch: int = PATCH, overlap: int = OVERLAP, batch: int = 16
    ) -> None:
        if patch < MIN_PATCH:
            raise PtqsrError(f"patches of {patch}; they must be at least {MIN_PATCH} input pixels")
        if not 0 <= overlap <= patch // 2:
            raise PtqsrError(
                f"patches of {patch} that overlap by {overlap}; it must be from 0 to half of them"
            )
        if batch < 1:
            raise PtqsrError(f"{batch} patches at a time; it must be at least 1")
        super().__init__(scale=network.scale, colours=network.colours)
        self.architecture = network.architecture  # type: ignore[misc]
        self.name = network.name
        self.hyperparameters = dict(network.hyperparameters)
        self.quantized_layers = network.quantized_layers
        self.calibration = network.calibration
        self.network = network
        self.patch, self.overlap, self.batch = patch, overlap, batch

    def starts(self, length: int) -> list[int]:
        """Return where the patches of an axis begin."""
        if length <= self.patch:
            return [0]
        step = self.patch - self.overlap
        return [*range(0, length - self.patch, step), length - self.patch]

    def computed(self, height: int, width: int) -> float:
        """Return how many pixels all patches of a picture have, over those of the picture."""
        lengths = (height, width)
        pixels = prod(len(self.starts(n)) * min(n, self.patch) for n in lengths)
        return pixels / prod(lengths)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the enlarged picture: patches share nothing that could be enlarged at once."""
        height, width = x.shape[2:]
        tall, wide = min(height, self.patch), min(width, self.patch)
        corners = [(top, left) for top in self.starts(height) for left in self.starts(width)]
        scale = self.scale
        total = x.new_zeros((len(x), x.shape[1], height * scale, width * scale))
        count = x.new_zeros((height * scale, width * scale))
        for first in range(0, len(corners), self.batch):
            some = corners[first : first + self.batch]
            windows = [x[..., top : top + tall, left : left + wide] for top, left in some]
            made = self.network(torch.cat(windows)).split(len(x))
            for (top, left), patch in zip(some, made, strict=True):
                rows = slice(top * scale, (top + tall) * scale)
                columns = slice(left * scale, (left + wide) * scale)
                total[..., rows, columns] += patch
                count[rows, columns] += 1
        return total / count

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return features
