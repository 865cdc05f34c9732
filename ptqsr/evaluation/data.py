"""Pairs of low- and high-resolution pictures on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptqsr.errors import PtqsrError, no_folder
from ptqsr.images import downscale, list_images, read_rgb


@dataclass(frozen=True)
class Pair:
    """A picture to evaluate on; `lr` is None where it is made from `hr` by bicubic."""

    name: str
    hr: Path
    lr: Path | None

    def read(self, scale: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (LR, HR) as uint8 [H, W, 3], HR cut to scale times LR."""
        hr = read_rgb(self.hr)
        if self.lr is None:
            if min(hr.shape[:2]) < scale:
                raise PtqsrError(
                    f"{self.hr}: {hr.shape[1]}x{hr.shape[0]} pixels are too few for scale {scale}"
                )
            return downscale(hr, scale)
        lr = read_rgb(self.lr)
        height, width = lr.shape[0] * scale, lr.shape[1] * scale
        if not (0 <= hr.shape[0] - height < scale and 0 <= hr.shape[1] - width < scale):
            raise PtqsrError(
                f"{self.lr}: {lr.shape[1]}x{lr.shape[0]} is not 1/{scale} of "
                f"{hr.shape[1]}x{hr.shape[0]}; give pictures of scale {scale}"
            )
        return lr, hr[:height, :width]


def find_pairs(folder: str | Path, scale: int) -> list[Pair]:
    """Return the pairs in a folder, sorted by name.

    A folder holds HR/ and LR/ (or x<scale>/HR and x<scale>/LR), or high-resolution pictures alone.
    An LR picture has the name of its HR picture, with or without `x<scale>` at its end.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise no_folder(folder)
    if (folder / f"x{scale}" / "HR").is_dir():
        folder = folder / f"x{scale}"
    elif other := sorted(p.parent.name for p in folder.glob("x*/HR")):
        raise PtqsrError(f"{folder}: has {', '.join(other)}, but no pictures of scale {scale}")
    if not (folder / "HR").is_dir():
        return _named(dict.fromkeys(list_images(folder, recursive=False)))
    if not (folder / "LR").is_dir():
        return _named(dict.fromkeys(list_images(folder / "HR", recursive=False)))
    low = {path.stem: path for path in list_images(folder / "LR", recursive=False)}
    pairs: dict[Path, Path | None] = {}
    for hr in list_images(folder / "HR", recursive=False):
        pairs[hr] = low.get(hr.stem) or low.get(f"{hr.stem}x{scale}")
        if pairs[hr] is None:
            raise PtqsrError(
                f"{hr}: has no partner {hr.stem} or {hr.stem}x{scale} in {folder / 'LR'}"
            )
    return _named(pairs)


def _named(pairs: Mapping[Path, Path | None]) -> list[Pair]:
    names: dict[str, Path] = {}
    for hr in pairs:
        if names.setdefault(hr.stem, hr) is not hr:
            raise PtqsrError(f"{hr}: has the name of {names[hr.stem].name}; rename one")
    return [Pair(hr.stem, hr, lr) for hr, lr in pairs.items()]


def read_pairs(pairs: list[Pair], scale: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (name, LR, HR)."""
    for pair in pairs:
        yield pair.name, *pair.read(scale)
