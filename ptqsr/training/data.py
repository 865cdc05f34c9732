"""Training pairs: every picture once in memory as 8 bits, crops drawn by step number."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from ptqsr.errors import PtqsrError
from ptqsr.images import downscale, read_rgb
from ptqsr.training.config import TrainConfig


class CropSampler:
    """Draws batches of aligned LR and HR crops, flipped and rotated at random.

    A batch depends on the seed and the step number alone, so that a resumed run sees what an
    uninterrupted one would have seen. Pictures smaller than a patch are left out: `too_small`.
    """

    def __init__(
        self, paths: Iterable[Path], *, scale: int, patch_size: int, batch_size: int, seed: int
    ) -> None:
        self.scale, self.patch_size, self.batch_size, self.seed = (
            scale,
            patch_size,
            batch_size,
            seed,
        )
        self.too_small: list[Path] = []
        self.pairs: list[tuple[np.ndarray, np.ndarray]] = []
        for path in paths:
            pair = read_pair(path, scale, patch_size)
            if pair is None:
                self.too_small.append(path)
            else:
                self.pairs.append(pair)
        if not self.pairs:
            raise PtqsrError(
                f"every picture is smaller than the patch of {patch_size * scale} pixels "
                f"({patch_size} x scale {scale}); lower --patch-size"
            )
        area = np.array([lr.shape[0] * lr.shape[1] for lr, _ in self.pairs], dtype=np.float64)
        self.probabilities = area / area.sum()

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (LR, HR), uint8 [N, 3, P, P] and [N, 3, scale P, scale P]."""
        rng = np.random.default_rng((self.seed, step))
        lr_crops: list[torch.Tensor] = []
        hr_crops: list[torch.Tensor] = []
        for i in rng.choice(len(self.pairs), self.batch_size, p=self.probabilities):
            lr, hr = self.pairs[i]
            y = int(rng.integers(lr.shape[0] - self.patch_size + 1))
            x = int(rng.integers(lr.shape[1] - self.patch_size + 1))
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            for picture, crops, factor in ((lr, lr_crops, 1), (hr, hr_crops, self.scale)):
                size = self.patch_size * factor
                crop = picture[y * factor :, x * factor :][:size, :size]
                crop = np.rot90(crop[:, ::-1] if flip else crop, turns)
                crops.append(torch.from_numpy(crop.transpose(2, 0, 1).copy()))
        return torch.stack(lr_crops), torch.stack(hr_crops)


class TrainingPictures:
    """What a run trains on, `sampler`, and what it is measured on, `validation`: (LR, HR) pairs.

    `identity`: how many pictures these are, and a digest of their names.
    """

    def __init__(self, paths: list[Path], config: TrainConfig, scale: int) -> None:
        names = "\n".join(path.name for path in paths)
        self.identity = f"{len(paths)} with names of digest {sha256(names.encode()).hexdigest()}"
        training, held_out = split(paths, config.validation_images)
        self.sampler = CropSampler(
            training,
            scale=scale,
            patch_size=config.patch_size,
            batch_size=config.batch_size,
            seed=config.seed,
        )
        pairs = (read_pair(path, scale, config.patch_size) for path in held_out)
        self.validation = [pair for pair in pairs if pair is not None]


def read_pair(path: Path, scale: int, patch_size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a picture's (LR, HR), or None where LR is smaller than a patch."""
    picture = read_rgb(path)
    if min(picture.shape[:2]) // scale < patch_size:
        return None
    return downscale(picture, scale)


def split(paths: list[Path], held_out: int) -> tuple[list[Path], list[Path]]:
    """Return (training, validation): every k-th picture is set aside for validation."""
    if held_out <= 0:
        return paths, []
    if held_out >= len(paths):
        raise PtqsrError(
            f"{held_out} validation pictures leave none of {len(paths)} to train on; "
            "lower --validation-images"
        )
    validation = paths[:: len(paths) // held_out][:held_out]
    aside = set(validation)
    return [path for path in paths if path not in aside], validation
