"""All that a page shows: networks measured, and the same windows of pictures by each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ptqsr.errors import PtqsrError
from ptqsr.models import SRNetwork, digest_of
from ptqsr.quantizers import choosers
from ptqsr.reporting.measure import Measured, Progress, measure
from ptqsr.reporting.pictures import Pictures, crops_of
from ptqsr.reporting.subject import Subject
from ptqsr.reporting.views import BICUBIC, PICTURE, View, views

FLOAT = "float"


@dataclass(frozen=True, eq=False)
class Report:
    """Networks side by side. `pictures`: in words, what was measured on; `crops`: how many and how
    large, for all about layers. `floats`: of every network the name of its float one in views.
    """

    networks: tuple[Measured, ...]
    views: tuple[View, ...]
    floats: tuple[str, ...]
    pictures: str
    crops: tuple[int, int]

    @cached_property
    def largest_error(self) -> float:
        """What error maps have as their brightest colour, grey levels: few pixels are above."""
        errors = [error for view in self.views for error in view.errors.values()]
        return max(1.0, *(float(np.quantile(error, 0.99)) for error in errors))


def make_report(
    subjects: Sequence[Subject],
    pictures: Pictures,
    *,
    crops: int,
    crop_size: int,
    seed: int,
    with_latency: bool = True,
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Measure networks of one scale on pictures and on `crops` crops of these.

    Crops have `crop_size` input pixels a side; networks that choose bits patch by patch get none
    larger than their patches.
    """
    scales = {subject.title: subject.quantized.scale for subject in subjects}
    if len(set(scales.values())) > 1:
        which = ", ".join(f"{title} x{scale}" for title, scale in scales.items())
        raise PtqsrError(f"networks side by side enlarge alike: {which}; make a report of each")
    subjects = _told_apart(subjects)
    scale = subjects[0].quantized.scale
    patches = [s.patches for s in subjects if choosers(s.quantized)]
    size = min([crop_size, *patches])
    taken = crops_of(pictures.measured, scale, size=size, count=crops, seed=seed)
    networks = tuple(
        measure(subject, pictures, taken, with_latency=with_latency, progress=progress)
        for subject in subjects
    )
    floats: dict[str, str] = {}
    of: list[str] = []
    shown: dict[str, SRNetwork] = {}
    for subject in subjects:
        key = digest_of(subject.floating.state_dict())
        floats.setdefault(key, FLOAT if not floats else f"float of {subject.title}")
        of.append(floats[key])
        shown[floats[key]] = subject.floating
    for subject in subjects:
        shown[subject.title] = subject.running
    before = dict(zip((subject.title for subject in subjects), of, strict=True))
    found = views(pictures.shown, shown, before, lambda done, total: progress("views", done, total))
    return Report(
        networks, tuple(found), tuple(of), pictures.about, (len(taken), taken[0][1].shape[0])
    )


def _told_apart(subjects: Sequence[Subject]) -> list[Subject]:
    """Return the subjects with titles of which no two are the same, and that can be written."""
    named: list[Subject] = []
    for subject in subjects:
        taken = {FLOAT, BICUBIC, PICTURE, *(other.title for other in named)}
        plain = subject.title.encode(errors="replace").decode()  # names of files may be any bytes
        title, number = plain, 2
        while title in taken:
            title, number = f"{plain} ({number})", number + 1
        named.append(replace(subject, title=title))
    return named


def records(report: Report) -> list[dict[str, Any]]:
    """Return the figures of every network as JSON; "inf" and "nan" are words."""

    def plain(value: float) -> float | str:
        return value if math.isfinite(value) else str(value)

    made = []
    for network in report.networks:
        found = network.sensitivities
        timings = network.latency.timings if network.latency else {}
        made.append(
            {
                "network": network.subject.title,
                "recipe": network.subject.recipe,
                "float_weights": network.subject.origin,
                "psnr": {
                    "float": plain(network.before.psnr),
                    "quantized": plain(network.after.psnr),
                },
                "ssim": {
                    "float": plain(network.before.ssim),
                    "quantized": plain(network.after.ssim),
                },
                "bitops": {"float": network.cost_before.bitops, "quantized": network.bitops_after},
                "storage_bytes": {
                    "float": network.cost_before.storage_bytes,
                    "quantized": network.cost_after.storage_bytes,
                },
                "fqr": network.cost_after.fqr,
                "latency_ms": {name: timing.median_ms for name, timing in timings.items()},
                "crops": {"layers": report.crops[0], "one_by_one": found.crops},
                "layers": [
                    {
                        "layer": name,
                        "share_of_error": found.share(name),
                        "error": found.layers[name].mse,
                        "psnr_drop": plain(found.drop(name)),
                        "input_sqnr": plain(network.noise[name].input_db),
                        "output_sqnr": plain(network.noise[name].output_db),
                        "weight_sqnr": plain(network.weights[name].db),
                    }
                    for name in network.ranking
                ],
            }
        )
    return made
