"""PSNR and SSIM of a network over a set of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from ptqsr.errors import PtqsrError
from ptqsr.evaluation.chosen import ChosenBits, recording_bits
from ptqsr.evaluation.data import Pair, find_pairs
from ptqsr.evaluation.metrics import psnr, ssim
from ptqsr.images import luma, to_levels, to_tensor, to_uint8, unit_luma
from ptqsr.models import SRNetwork, check_network, device_of, evaluating

# (name, LR, HR), the pictures uint8 [H, W, 3].
NamedPair = tuple[str, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ImageResult:
    name: str
    psnr: float  # dB, +inf where equal
    ssim: float  # NaN where the picture is smaller than SSIM's window
    chosen: ChosenBits = field(default_factory=dict)  # by layers that choose them for the picture


@dataclass(frozen=True)
class EvaluationResult:
    """Means over pictures; per picture in `images`."""

    images: tuple[ImageResult, ...]

    @property
    def psnr(self) -> float:
        return fmean(image.psnr for image in self.images)

    @property
    def ssim(self) -> float:
        return fmean(image.ssim for image in self.images)

    @property
    def chosen(self) -> ChosenBits:
        """The bits that layers chose, picture by picture; empty where none does."""
        found: ChosenBits = {}
        for image in self.images:
            for name, bits in image.chosen.items():
                found.setdefault(name, []).extend(bits)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return JSON numbers, or "inf" and "nan", which JSON has no numbers for."""

        def plain(x: float) -> float | str:
            return x if math.isfinite(x) else str(x)

        return {
            "psnr": plain(self.psnr),
            "ssim": plain(self.ssim),
            "images": [
                {"name": image.name, "psnr": plain(image.psnr), "ssim": plain(image.ssim)}
                for image in self.images
            ],
        }


def evaluate(
    model: SRNetwork,
    data: str | Path | Iterable[NamedPair | tuple[np.ndarray, np.ndarray]],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvaluationResult:
    """Return PSNR and SSIM on luma, with a border of `scale` pixels cut.

    `data` is a folder (HR/ and LR/, x<scale>/HR and x<scale>/LR, or HR pictures alone), or pairs
    of uint8 [H, W, 3] pictures (LR, HR), with a name before them if wished. The output is rounded
    to 8 bits first; luma is not rounded. Pictures with nothing inside the border keep it. The
    network runs on the device that it is on; what is compared is computed on the CPU. Raises
    PtqsrError where a pair does not fit.
    """
    check_network(model)
    if isinstance(data, (str, Path)):
        pairs: Sequence[Any] = find_pairs(data, model.scale)
    else:
        pairs = list(data)
    if not pairs:
        raise PtqsrError("evaluation: no pictures were given")
    results = []
    for done, pair in enumerate(pairs, 1):
        if isinstance(pair, Pair):
            results.append(measure(model, pair))
        else:
            *name, lr, hr = pair
            results.append(_one(model, str(name[0]) if name else str(done), lr, hr))
        progress(done, len(pairs))
    return EvaluationResult(tuple(results))


def measure(model: SRNetwork, pair: Pair) -> ImageResult:
    """Return PSNR and SSIM of one pair of files, as `evaluate` takes them."""
    return _one(model, pair.name, *pair.read(model.scale))


def _one(model: SRNetwork, name: str, lr: object, hr: object) -> ImageResult:
    scale = model.scale
    for picture in (lr, hr):
        if (
            not isinstance(picture, np.ndarray)
            or picture.dtype != np.uint8
            or picture.ndim != 3
            or picture.shape[2] != 3
        ):
            what = getattr(picture, "dtype", type(picture).__name__)
            raise PtqsrError(
                f"{name}: {what} {tuple(getattr(picture, 'shape', ()))}; give uint8 arrays "
                "[H, W, 3] of 0 to 255"
            )
    assert isinstance(lr, np.ndarray) and isinstance(hr, np.ndarray)
    if (lr.shape[0] * scale, lr.shape[1] * scale) != hr.shape[:2]:
        raise PtqsrError(
            f"{name}: LR {lr.shape[1]}x{lr.shape[0]} and HR {hr.shape[1]}x{hr.shape[0]} are no "
            f"pair of scale {scale}"
        )
    with evaluating(model), recording_bits(model) as chosen:
        ours = super_resolve_luma(model, lr, name)
    reference = luma(to_levels(hr))
    if min(ours.shape[-2:]) > 2 * scale:
        ours, reference = (x[..., scale:-scale, scale:-scale] for x in (ours, reference))
    return ImageResult(name, psnr(ours, reference), ssim(ours, reference), chosen)


@torch.no_grad()
def super_resolve_luma(model: SRNetwork, lr: np.ndarray, name: str) -> torch.Tensor:
    """Return the luma in grey levels, float64 [1, 1, H, W], of the 8-bit output for a picture."""
    x = to_tensor(lr).to(device_of(model))
    if model.colours == "y":
        x = unit_luma(x)
    y = model(x)
    model.check_output(x, y, name)
    levels = to_uint8(y).cpu().double()
    return levels if model.colours == "y" else luma(levels)
