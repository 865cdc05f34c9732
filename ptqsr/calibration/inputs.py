"""Network inputs from what users hand over: paths, arrays, tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptqsr.errors import PtqsrError
from ptqsr.images import list_images, read_rgb, to_tensor, unit_luma
from ptqsr.models import SRNetwork, device_of

Image = str | Path | np.ndarray | torch.Tensor


class Inputs:
    """Pictures that can be gone through more than once, as the network takes them.

    A path is read anew each time; a folder stands for its pictures. Arrays are [H, W] or
    [H, W, C], uint8 or float in [0, 1]; tensors [C, H, W] or [N, C, H, W], likewise. `what`: for
    errors to say.
    """

    # The number of the first picture, where these are a part of all.
    first = 0

    def __init__(
        self, images: Image | Iterable[Image], network: SRNetwork, what: str = "calibration"
    ) -> None:
        if isinstance(images, (str, Path)):
            images = list_images(images) if Path(images).is_dir() else [images]
        elif isinstance(images, (np.ndarray, torch.Tensor)):
            images = [images]
        self.images = list(images)
        if not self.images:
            raise PtqsrError(f"{what}: no pictures were given")
        self.what = what
        self.luma_only = network.colours == "y"
        self.device = device_of(network)

    def __len__(self) -> int:
        return len(self.images)

    def part(self, start: int, stop: int) -> Inputs:
        """Return some of the pictures, which keep their numbers."""
        found = copy.copy(self)
        found.images, found.first = self.images[start:stop], self.first + start
        return found

    def __iter__(self) -> Iterator[torch.Tensor]:
        for number, image in enumerate(self.images, self.first):
            x = self._tensor(image, f"{self.what} picture {number}")
            if self.luma_only and x.shape[1] == 3:
                x = unit_luma(x)
            elif not self.luma_only and x.shape[1] == 1:
                x = x.expand(-1, 3, -1, -1)
            yield x.to(self.device)

    def _tensor(self, image: Any, name: str) -> torch.Tensor:
        if isinstance(image, (str, Path)):
            return to_tensor(read_rgb(image))
        if isinstance(image, np.ndarray):
            if image.ndim not in (2, 3):
                raise PtqsrError(f"{name}: array of shape {image.shape}, expected [H, W, C]")
            image = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(image)))
            image = image.permute(2, 0, 1)
        if not isinstance(image, torch.Tensor):
            raise PtqsrError(f"{name}: is a {type(image).__name__}; give a path, array or tensor")
        x = image.unsqueeze(0) if image.ndim == 3 else image
        if x.ndim != 4 or x.shape[1] not in (1, 3) or x.numel() == 0:
            raise PtqsrError(f"{name}: shape {tuple(image.shape)}, expected 1 or 3 channels, H, W")
        if x.dtype == torch.uint8:
            return x.to(torch.float32) / 255
        x = x.to(torch.float32)
        if not torch.isfinite(x).all():
            raise PtqsrError(f"{name}: holds NaN or Inf")
        if x.min() < -0.5 or x.max() > 1.5:
            raise PtqsrError(f"{name}: values reach {x.abs().max():g}; give floats in [0, 1]")
        return x
