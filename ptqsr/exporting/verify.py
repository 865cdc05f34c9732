"""Exported files held against the network, on photographs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ptqsr.calibration import Inputs
from ptqsr.errors import PtqsrError
from ptqsr.exporting.roundings import Roundings, rounded_otherwise
from ptqsr.images import downscale, read_rgb, sample_photographs
from ptqsr.models import SRNetwork

# Pixels of what is traced: two pictures, and sides that are nothing in particular.
TRACED = (2, 40, 56)
# The photographs are 427x640: whole ones are then 71x106.
SHRINK = 6
# What differs by so little costs a picture of 32 dB 0.02 dB even if all of it is error.
CLOSE_DB = 55.0
# Else the difference may be twice that which the same roundings make elsewhere.
MARGIN_DB = 3.0
# Whatever rounding makes: pixels in a wrong order are 15 to 25 dB apart.
WORST_DB = 30.0

Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Check:
    """An exported file's output beside the network's, on pictures of one size.

    max_abs: in grey levels of 255. psnr: of the difference, in dB for [0, 1]; rounding: the same
    of the network with roundings like the file's; tolerance: what psnr must reach. Infinite where
    nothing differs.
    """

    batch: int
    height: int
    width: int
    max_abs: float
    psnr: float
    rounding: float
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        return {k: v if math.isfinite(v) else str(v) for k, v in asdict(self).items()}


def traced_input(network: SRNetwork) -> torch.Tensor:
    """Return corners of the two photographs, of the size at which the network is traced."""
    _, height, width = TRACED
    return torch.cat([x[..., :height, :width] for x in photographs(network)])


def photographs(network: SRNetwork) -> Iterator[torch.Tensor]:
    """Give the two photographs, shrunk, as the network takes them."""
    for path in sample_photographs():
        small, _ = downscale(read_rgb(path), SHRINK)
        yield from Inputs([small], network)


def check(
    network: SRNetwork, run: Run, roundings: Roundings, tolerance: float | None = None
) -> list[Check]:
    """Compare at the traced size and at another one; raise PtqsrError beyond the tolerance.

    run: the exported file, [N, C, H, W] in and [N, C, scale H, scale W] out. tolerance: in dB;
    None: CLOSE_DB, or if that is less, MARGIN_DB below what the file's roundings make of the
    network by themselves, since they change codes that others follow; never below WORST_DB.
    """
    return [
        _compare(network, run, x, roundings, tolerance)
        for x in (traced_input(network), next(photographs(network)))
    ]


def _compare(
    network: SRNetwork,
    run: Run,
    x: torch.Tensor,
    roundings: Roundings,
    tolerance: float | None,
) -> Check:
    with torch.inference_mode():
        wanted = network(x).cpu()
        with rounded_otherwise(network, roundings):
            rounding = psnr(wanted, network(x).cpu())
    got = run(x.cpu())
    batch, _, height, width = x.shape
    place = f"at {height}x{width} the exported network"
    if got.shape != wanted.shape:
        raise PtqsrError(
            f"{place} gives {tuple(got.shape)}, not {tuple(wanted.shape)}; nothing is written"
        )
    if tolerance is None:
        tolerance = max(WORST_DB, min(CLOSE_DB, rounding - MARGIN_DB))
    largest, found = float((got - wanted).abs().max()) * 255, psnr(wanted, got)
    if not found >= tolerance:
        raise PtqsrError(
            f"{place} differs by {found:.1f} dB (up to {largest:.1f} grey levels) where "
            f"{tolerance:.1f} dB are asked for, and the file's roundings alone make "
            f"{rounding:.1f} dB; nothing is written (--tolerance takes less)"
        )
    return Check(batch, height, width, largest, found, rounding, tolerance)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return how far apart two outputs in [0, 1] are, in dB; NaN where one holds NaN."""
    error = float((a.double() - b.double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)
