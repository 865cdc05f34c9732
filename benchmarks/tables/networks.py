"""The networks that tables are about: where their weights are, and what calibrates them.

All are calibrated on crops of 48x48 of the training pictures: by how many, recipes say.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptqsr import models
from ptqsr.cli.crops import HELD_OUT, TO_STOP
from ptqsr.evaluation import find_pairs, read_pairs
from ptqsr.images import cut, cut_held_out, downscale, list_images

PATCH = 48
CROPS = 16  # that calibrate a network


@dataclass(frozen=True)
class Network:
    """`source`: the authors' file, or the architecture of bundled weights."""

    name: str
    source: str
    scale: int

    @property
    def bundled(self) -> bool:
        return "." not in self.source

    @property
    def trained(self) -> bool:
        """Whether there are weights: the authors', or in the package."""
        return not self.bundled or f"{self.source}_x{self.scale}" in models.bundled()

    def missing(self, weights: Path) -> str | None:
        """Return why it cannot be built here, or None."""
        if self.bundled:
            return None if self.trained else "no such weights are bundled"
        file = weights / self.source
        return None if file.is_file() else f"there is no {file}"

    def build(self, weights: Path) -> models.SRNetwork:
        if self.bundled:
            return models.build(self.source, scale=self.scale)
        return models.load(weights / self.source, scale=self.scale)

    def crops(self, data: Path, count: int = CROPS) -> list[np.ndarray]:
        """Return the network inputs that calibrate it, the same ones always."""
        size = PATCH * self.scale
        pictures, _ = cut(_pictures(data), size=size, count=count, held_out=HELD_OUT, seed=0)
        return [downscale(picture, self.scale)[0] for picture in pictures]

    def held_out(self, data: Path) -> list[np.ndarray]:
        """Return the network inputs by which methods that learn stop, as `ptqsr calibrate` does."""
        size = PATCH * self.scale
        pictures = cut_held_out(_pictures(data), size=size, count=TO_STOP, seed=0)
        return [downscale(picture, self.scale)[0] for picture in pictures]


def _pictures(data: Path) -> list[Path]:
    return list_images(data / "train")


NETWORKS = (
    Network("IMDN x4 (authors')", "IMDN_x4.pth", 4),
    Network("IDN x4 (authors', luma)", "idn_x4.npz", 4),
    Network("CARN-M x4 (authors')", "carn_m.pth", 4),
    Network("EDSR x4 (bundled)", "edsr", 4),
    Network("IDN x2 (authors', luma)", "idn_x2.npz", 2),
    Network("CARN-M x2 (authors')", "carn_m.pth", 2),
    Network("EDSR x2 (bundled)", "edsr", 2),
    # DFSQ's other network asks for a GPU to train it.
    Network("RDN x4 (bundled)", "rdn", 4),
    Network("RDN x2 (bundled)", "rdn", 2),
)


def available(
    weights: Path, *, scales: Sequence[int] = (2, 4), only: Sequence[str] = ()
) -> Iterator[Network]:
    """Yield the networks whose name begins as one of `only`; say which are left out, and why."""
    known = [network for network in NETWORKS if network.scale in scales]
    for name in only:
        if not any(network.name.startswith(name) for network in known):
            raise SystemExit(f"--only {name}: there are {', '.join(n.name for n in known)}")
    for network in known:
        if not only or network.name.startswith(tuple(only)):
            if (reason := network.missing(weights)) is None:
                yield network
            else:
                print(f"left out: {network.name}: {reason}", flush=True)


def pairs(data: Path, name: str, scale: int) -> list[Any]:
    """Return the (name, LR, HR) pictures of a standard set."""
    return list(read_pairs(find_pairs(data / name, scale), scale))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --data and --weights; help keeps the description's lines."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    folders = (("data", "with train, Set5, Set14 and BSD100"), ("weights", "of the authors' files"))
    for name, what in folders:
        default = Path("../shared") / name
        text = f"folder {what} (%(default)s)"
        parser.add_argument(f"--{name}", type=Path, default=default, help=text)
