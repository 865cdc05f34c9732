"""Windows of pictures as each network makes them, and where they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ptqsr.evaluation.metrics import psnr
from ptqsr.evaluation.quality import NamedPair
from ptqsr.images import luma, to_levels, upscale
from ptqsr.models import SRNetwork
from ptqsr.upscaling import upscale as enlarge

WINDOW, MOST = 192, 4  # pixels of output; windows in all
BICUBIC, PICTURE = "bicubic", "picture"


@dataclass(frozen=True, eq=False)
class View:
    """A window of a picture: uint8 [H, W, 3] by who made it, "picture" being the original.

    `psnr` in dB on the window's luma; `errors`: of each quantized network, |difference| to its
    float one, luma in grey levels, float32 [H, W].
    """

    name: str
    top: int
    left: int
    made: Mapping[str, np.ndarray]
    psnr: Mapping[str, float]
    errors: Mapping[str, np.ndarray]


def views(
    pairs: list[NamedPair],
    networks: Mapping[str, SRNetwork],
    before: Mapping[str, str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[View]:
    """Return windows where quantization changes the pictures most, of the first MOST pictures.

    networks: by name, float and quantized; before: of every quantized one the float one's name.
    """
    found: list[tuple[int, float, View]] = []
    pairs = pairs[:MOST]
    jobs = len(pairs) * len(networks)
    for number, (name, lr, hr) in enumerate(pairs):
        made = {BICUBIC: upscale(lr, networks[next(iter(networks))].scale), PICTURE: hr}
        for done, (who, network) in enumerate(networks.items(), 1):
            made[who] = enlarge(network, lr)
            progress(number * len(networks) + done, jobs)
        grey = {who: _grey(picture) for who, picture in made.items()}
        errors = {who: np.abs(grey[who] - grey[old]) for who, old in before.items()}
        total = sum(errors.values())
        windows = sorted(_windows(*hr.shape[:2]), key=lambda at: -float(total[at].mean()))
        for rank, at in enumerate(windows):
            view = View(
                name,
                at[0].start,
                at[1].start,
                {who: picture[at] for who, picture in made.items()},
                {who: _psnr(grey[who][at], grey[PICTURE][at]) for who in made if who != PICTURE},
                {who: error[at].astype(np.float32) for who, error in errors.items()},
            )
            found.append((rank, -float(total[at].mean()), view))
    # The worst of every picture first.
    found.sort(key=lambda row: row[:2])
    return [view for _, _, view in found[:MOST]]


def _windows(height: int, width: int) -> list[tuple[slice, slice]]:
    """Return windows side by side, those that fit; the whole picture where it is smaller."""

    def cuts(length: int) -> list[slice]:
        size = min(WINDOW, length)
        count = length // size
        start = (length - count * size) // 2
        return [slice(start + i * size, start + (i + 1) * size) for i in range(count)]

    return [(rows, columns) for rows in cuts(height) for columns in cuts(width)]


def _grey(picture: np.ndarray) -> np.ndarray:
    return luma(to_levels(picture))[0, 0].numpy()


def _psnr(ours: np.ndarray, wanted: np.ndarray) -> float:
    return psnr(torch.from_numpy(ours), torch.from_numpy(wanted))
