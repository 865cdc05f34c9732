"""How a picture goes through a network: whole, or in tiles."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Literal

import torch

from ptqsr.errors import PtqsrError
from ptqsr.models import PatchWise, SRNetwork, device_of, sketch
from ptqsr.upscaling.probe import Extent, probe

Statistics = Literal["image", "tile"]

log = logging.getLogger("ptqsr")

# A plan is worth another attempt where memory ran out if it asks for at most this of what did not
# fit.
LESS = 0.9
# What is tried, in input pixels, from the fastest to the smallest.
TILES = (512, 384, 256, 192, 128, 96, 64, 48, 32)
# Of the part that enlarges, where it is exact: small tiles stay in the processor's caches.
TAIL_TILE = 128
MIN_TILE = 8
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
SMALLEST = 1 << 20  # that a limit without a unit is taken for: below, it was forgotten
# What the estimate leaves out, such as what allocators keep: benchmarks/memory.py measures it.
SLACK = 1.15
# What bicubic interpolation looks at: alpha's, and that of the colours of a network on luma.
BICUBIC_MARGIN = 2
# An output pixel with alpha in 8 bits, and the copies that make a file of it.
BYTES_PER_OUTPUT_PIXEL = 12
# A blended output pixel with alpha in float32, and its copies until it is one of 8 bits.
BYTES_PER_BLENDED_PIXEL = 48


@dataclass(frozen=True)
class Plan:
    """`tile`: input pixels made at one time, None: all of them. `margin`: input pixels around them
    that are computed too. `whole_features`: only the part that enlarges goes by tiles. `exact`:
    the picture is that of the whole network, but for rounding. `peak_bytes`: an estimate for the
    whole process, on a GPU for its tensors there, None where there is none. `convolutions`: how
    many `features` runs. `patches`: of a network that takes the picture apart by itself
    (models.PatchWise), their size and overlap.
    """

    tile: int | None
    margin: int
    whole_features: bool
    exact: bool
    peak_bytes: int | None
    convolutions: int
    patches: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.patches is not None:
            what = "patches of {} that overlap by {}".format(*self.patches)
        elif self.tile is None:
            what = "the whole picture at once"
        elif self.whole_features:
            what = f"the body on the whole picture, the rest in tiles of {self.tile}"
        else:
            how = (
                "exact but for rounding"
                if self.exact
                else "each with statistics of its own, blended"
            )
            what = f"tiles of {self.tile}, {self.margin} pixels of overlap, {how}"
        return what if self.peak_bytes is None else f"{what}; about {self.peak_bytes / 1e9:.1f} GB"


class Planner:
    """Plans pictures of any size for one network."""

    def __init__(
        self,
        network: SRNetwork,
        *,
        tile: int | None = None,
        statistics: Statistics = "image",
        memory: int | str | None = None,
    ) -> None:
        if tile is not None and tile < MIN_TILE:
            raise PtqsrError(f"tile is {tile}; it must be at least {MIN_TILE} input pixels")
        if statistics not in ("image", "tile"):
            raise PtqsrError(f"stats {statistics!r} is unknown; choose image or tile")
        if tile is not None and memory is not None:
            raise PtqsrError("give either a tile or a memory limit: the limit chooses the tile")
        self.tile, self.statistics = tile, statistics
        self.memory = None if memory is None else size(memory)
        self.network = network
        self.unknown: str | None = None  # why nothing is known of what it does
        self.sketch = sketch(network).eval()
        device = device_of(network)
        # On a GPU the picture that is made, alpha and blending stay in the host's memory.
        self.on_host = device.type == "cpu"
        # Once: what a picture leaves with the allocator is used again.
        self.in_use = _in_use(device)
        self.too_much: int | None = None  # what memory did not suffice for, besides what is in use
        self.channels = 1 if network.colours == "y" else 3

    def plan(self, height: int, width: int) -> Plan:
        """Return the plan for a picture of height x width input pixels.

        Once memory ran out (`smaller`), it is the best one that takes less, or else the one that
        takes least. Raises PtqsrError where there is none that keeps to the memory limit and the
        statistics.
        """
        if isinstance(self.network, PatchWise):
            return self._by_patches(self.network)
        if self.unknown is None:
            try:
                features, tail = self._probe(height, width)
            except PtqsrError:
                raise
            except Exception as error:  # whatever a network of the user's own does there
                self.unknown = str(error).split("\n")[0] or type(error).__name__
                log.warning("%s: the whole picture goes through it at once", self._without_values())
        if self.unknown is not None:
            return self._whole()
        least = 0
        within: list[tuple[int, int, Plan]] = []  # of those within the limit: peak, number, plan
        for way in self._ways(features, tail):
            plan, peak = self._make(height, width, *way)
            if self.memory is None or peak <= self.memory:
                if self.too_much is None or peak - self.in_use <= LESS * self.too_much:
                    return plan
                within.append((peak, len(within), plan))
            least = min(least or peak, peak)
        if within:
            return min(within)[2]
        whole = features.whole_picture or tail.whole_picture
        cure = ""
        if whole and self.statistics == "image":
            by_tiles = min(self._make(height, width, tile, False)[1] for tile in TILES)
            if by_tiles <= (self.memory or 0):
                cure = ", or take statistics of tiles (--stats tile), which changes the picture"
        raise PtqsrError(
            f"{width}x{height} pixels take about {ceil(least / 1e7) / 100:.2f} GB, more than the "
            f"limit of {_gigabytes(self.memory or 0)} (--memory); raise it{cure}"
        )

    def smaller(self, plan: Plan, height: int, width: int) -> Plan | None:
        """Return another plan, with smaller tiles, where memory did not suffice for this one.

        Pictures planned from here on keep below it, too. None where nothing takes less.
        """
        if plan.peak_bytes is None:
            return None
        asked = plan.peak_bytes - self.in_use
        self.too_much = min(asked, self.too_much or asked)
        found = self.plan(height, width)
        assert found.peak_bytes is not None
        return found if found.peak_bytes - self.in_use <= LESS * asked else None

    def _ways(self, features: Extent, tail: Extent) -> list[tuple[int | None, bool]]:
        """Return (tile, whether the features are whole), the best first."""
        given = self.tile or TILES[0] + 1
        # Smaller ones than a given tile are for where memory runs out.
        tiles = [*([self.tile] if self.tile else []), *(tile for tile in TILES if tile < given)]
        whole = features.whole_picture or tail.whole_picture
        if whole and self.statistics == "tile":
            return [(tile, False) for tile in tiles]
        if tail.whole_picture:
            if self.tile is not None:
                raise PtqsrError(
                    "tiles would change the picture: the last layers depend on statistics of the "
                    "whole picture; take statistics of tiles (--stats tile) if that is wanted"
                )
            return [(None, True)]
        if self.tile is not None:
            return [(tile, whole) for tile in tiles]
        tail_tiles = [tile for tile in TILES if tile <= TAIL_TILE]
        by_tiles = [] if whole else [(tile, False) for tile in TILES]
        return [*((tile, True) for tile in tail_tiles), *by_tiles]

    def _without_values(self) -> str:
        return f"the network does not run on shapes alone ({self.unknown})"

    def _whole(self) -> Plan:
        """Return the plan for a network of which it is unknown how far it looks."""
        if self.tile is not None or self.memory is not None or self.statistics == "tile":
            raise PtqsrError(
                f"{self._without_values()}, so that tiles and memory cannot be planned; without "
                "those options the whole picture goes through it at once"
            )
        return Plan(None, 0, whole_features=False, exact=True, peak_bytes=None, convolutions=0)

    def _by_patches(self, network: PatchWise) -> Plan:
        if self.tile is not None or self.memory is not None or self.statistics == "tile":
            raise PtqsrError("a network that runs by patches takes no tiles and no memory limit")
        sizes = network.patch, network.overlap
        return Plan(None, 0, False, False, None, 0, sizes)

    def _make(
        self, height: int, width: int, tile: int | None, whole_features: bool
    ) -> tuple[Plan, int]:
        """Return the plan with these tiles, and its `peak_bytes`."""
        features, tail = self._probe(height, width)
        per_pixel = self.network.scale**2
        fixed = height * width * per_pixel * BYTES_PER_OUTPUT_PIXEL
        margin = tail.radius if whole_features else features.radius + tail.radius
        margin = max(margin, BICUBIC_MARGIN)
        size = (height, width) if tile is None else (tile + 2 * margin, tile + 2 * margin)
        window = self._probe(min(size[0], height), min(size[1], width))
        single = tile is None or max(height, width) <= tile
        if whole_features:
            # What the features leave behind is there while the tiles are made.
            peak = max(features.peak_bytes, features.result_bytes + window[1].peak_bytes)
        else:
            peak = max(window[0].peak_bytes, window[0].result_bytes + window[1].peak_bytes)
        exact = single or whole_features or not (features.whole_picture or tail.whole_picture)
        if not exact:
            fixed += min(size[0], height) * width * per_pixel * BYTES_PER_BLENDED_PIXEL
        bytes_ = int(self.in_use + (fixed if self.on_host else 0) + SLACK * peak)
        return Plan(tile, margin, whole_features, exact, bytes_, features.convolutions), bytes_

    @lru_cache(maxsize=256)  # noqa: B019 (a planner lives as long as a command)
    def _probe(self, height: int, width: int) -> tuple[Extent, Extent]:
        """Return the extents of the network's two halves for a picture of this size."""
        network = self.sketch
        x = torch.empty((1, self.channels, height, width), device="meta")
        with torch.device("meta"):  # for constants that the network makes on its way
            features, made = probe(network.features, x)
            return features, probe(network.reconstruct, x, made)[0]


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e9:.1g} GB"


def size(text: int | str) -> int:
    """Return a size in bytes, as 2GB, 800MB or 1.5GiB; raises PtqsrError for another text."""
    match = re.fullmatch(
        r"([0-9]{0,15}\.?[0-9]{1,15})\s*((?:[KMG]I?)?)B?", str(text).strip().upper()
    )
    if match is None:
        raise PtqsrError(f"--memory {text}: give a size as 2GB, 800MB or 1.5GiB")
    without_unit = isinstance(text, str) and text.strip()[-1].isdigit()
    if without_unit and 0 < float(match[1]) < SMALLEST:
        raise PtqsrError(f"--memory {text}: are so many bytes; give a unit, as 2GB or 800MB")
    return int(float(match[1]) * UNITS[match[2]])


def _in_use(device: torch.device) -> int:
    """Return the memory that this process takes already, on a GPU by tensors there, in bytes."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 400_000_000  # PyTorch's libraries
