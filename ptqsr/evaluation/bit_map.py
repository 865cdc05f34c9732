"""A drawing of the bits that patches and layers chose (CADyQ, Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ptqsr.errors import PtqsrError
from ptqsr.evaluation.chosen import mean_bits
from ptqsr.images import Picture, write_picture
from ptqsr.models import PatchWise

# Of the fewest and the most bits.
FEW, MANY = (49, 104, 190), (214, 57, 47)
# Of the picture, against the colours over it.
OPACITY = 0.45
MIN_WIDTH, GAP, ROW = 480, 12, 16


@dataclass(frozen=True)
class PatchBits:
    """The patches of a picture: their corners (top, left) and size in input pixels, mean bits."""

    corners: tuple[tuple[int, int], ...]
    size: int
    means: tuple[float, ...]


def patch_bits(
    height: int, width: int, chosen: Mapping[str, list[int]], network: PatchWise | None
) -> PatchBits:
    """Return the patches of a picture of height x width input pixels, and what they chose.

    `chosen` and `network` as of `draw_bits`. Raises PtqsrError where no layer chose for each.
    """
    rows, columns = ([0], [0]) if network is None else map(network.starts, (height, width))
    corners = tuple((top, left) for top in rows for left in columns)
    size = max(height, width) if network is None else network.patch
    batch = len(corners) if network is None else network.batch
    found = [by_patch(bits, len(corners), batch) for bits in chosen.values()]
    table = [row for row in found if row is not None]
    if not table:
        raise PtqsrError(f"no layer chose bits for each of the {len(corners)} patches")
    return PatchBits(corners, size, tuple(np.mean(table, 0).tolist()))


def draw_bits(
    path: Path,
    picture: np.ndarray,
    chosen: Mapping[str, list[int]],
    candidates: tuple[int, int],
    network: PatchWise | None,
) -> None:
    """Write a drawing: the picture, every patch in the colour of its mean bits, and the layers'.

    picture: uint8 [H, W, 3], the network's input; `chosen`: what it chose for that alone;
    `candidates`: the fewest bits and the most; `network`: that by patches, None where the picture
    went whole.
    """
    if not any(chosen.values()):
        raise PtqsrError(f"{path}: the network chooses no bits; there is nothing to draw")
    height, width = picture.shape[:2]
    try:
        patches = patch_bits(height, width, chosen, network)
    except PtqsrError as error:
        raise PtqsrError(f"{path}: {error}") from None
    size = patches.size
    over = np.zeros((height, width, 4))
    for (top, left), bits in zip(patches.corners, patches.means, strict=True):
        over[top : top + size, left : left + size] += (*colour(bits, candidates), 1)
    covered = over[..., 3:]
    tinted = np.where(
        covered > 0,
        picture * (1 - OPACITY) + OPACITY * over[..., :3] / np.maximum(covered, 1),
        picture,
    )
    zoom = max(1, -(-MIN_WIDTH // width))
    shown = Image.fromarray(tinted.round().astype(np.uint8))
    shown = shown.resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
    layers = mean_bits(chosen)
    below = 2 * GAP + ROW * (len(layers) + 1)
    made = Image.new("RGB", (shown.width, shown.height + below), "white")
    made.paste(shown, (0, 0))
    draw = ImageDraw.Draw(made)
    top = shown.height + GAP
    few, many = candidates
    draw.text((4, top), f"mean bits of each layer's input, {few} to {many}", fill="black")
    bar, longest = shown.width // 2, shown.width // 2 - 48
    for number, (name, bits) in enumerate(layers.items(), 1):
        y = top + ROW * number
        draw.text((4, y), name, fill="black")
        end = bar + round(longest * bits / many)
        draw.rectangle((bar, y + 2, end, y + ROW - 3), fill=colour(bits, candidates))
        draw.text((end + 4, y), f"{bits:.2f}", fill="black")
    write_picture(path, Picture(np.asarray(made), False, None, None))


def by_patch(bits: list[int], patches: int, batch: int) -> np.ndarray | None:
    """Return a layer's mean bits of every patch, [patches]; None where it fits no such number.

    `bits` are in the order in which they were chosen: of a layer that runs several times, as those
    of CARN-M do, all patches of a batch one time after the other.
    """
    calls, left_over = divmod(len(bits), patches)
    if not calls or left_over:
        return None
    means, place = [], 0
    for first in range(0, patches, batch):
        some = min(batch, patches - first)
        times = np.reshape(bits[place : place + calls * some], (calls, some))
        means.append(times.mean(0))
        place += calls * some
    return np.concatenate(means)


def colour(bits: float, candidates: tuple[int, int]) -> tuple[int, int, int]:
    """Return the colour of a number of bits between the fewest and the most."""
    few, many = candidates
    share = min(1.0, max(0.0, (bits - few) / max(1, many - few)))
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(FEW, MANY, strict=True))
    return red, green, blue
