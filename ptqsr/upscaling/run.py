"""A picture through a network."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from ptqsr.errors import PtqsrError, is_out_of_memory
from ptqsr.images import Picture, to_levels, to_tensor, unit_luma, with_luma
from ptqsr.images import upscale as bicubic
from ptqsr.models import SRNetwork, check_network, device_of, evaluating, observing
from ptqsr.upscaling.plan import Plan, Planner, Statistics
from ptqsr.upscaling.tiles import Span, assemble, spans

log = logging.getLogger("ptqsr")

# Called with how much is done and how much there is.
Progress = Callable[[int, int], None]


def upscale(
    model: SRNetwork,
    image: np.ndarray,
    *,
    tile: int | None = None,
    statistics: Statistics = "image",
    memory: int | str | None = None,
    progress: Progress = lambda done, total: None,
) -> np.ndarray:
    """Return a picture, uint8 [H, W, 3], enlarged by a network: uint8 [scale H, scale W, 3].

    By default the network sees the whole picture; only the layers that enlarge, which need a few
    neighbours, run by tiles, which changes nothing but rounding (at most a grey level).

    `tile` (input pixels) runs the whole network by tiles that overlap by at least its receptive
    field, which is as exact (static quantization to few bits may amplify the rounding, where it
    flips a code); where it depends on statistics of the picture (DFSQ normalises every
    channel on the fly; attention) its body still sees the whole picture. `statistics` "tile" gives
    each tile statistics of its own instead, and blends the tiles: that changes the picture.
    `memory` (for the whole process, in bytes or as "2GB") chooses a tile by an estimate; for a
    network on a GPU it is that of tensors there, to which CUDA adds some 0.5 GB. Where a network of
    the user's own begins to enlarge is not known: it runs whole or by tiles, as one.

    It runs on the device that the network is on. Where memory runs out, it is tried again with
    smaller tiles, with a warning.

    A network on luma gets its colours by bicubic interpolation. Raises PtqsrError where the picture
    does not fit, or no way keeps to the memory limit.
    """
    check_network(model)
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3):
        what = getattr(image, "dtype", type(image).__name__)
        raise PtqsrError(
            f"upscale: {what} {tuple(getattr(image, 'shape', ()))}; give a uint8 array [H, W, 3]"
        )
    if image.shape[2] != 3 or image.size == 0:
        raise PtqsrError(f"upscale: the array has shape {image.shape}; give [H, W, 3]")
    planner = Planner(model, tile=tile, statistics=statistics, memory=memory)
    made, _ = upscale_fitting(model, Picture(image), planner, "upscale", progress)
    return made.rgb


@torch.no_grad()
def run(
    model: SRNetwork,
    image: np.ndarray,
    plan: Plan,
    progress: Progress = lambda done, total: None,
    alpha: np.ndarray | None = None,
) -> np.ndarray:
    """Return the enlarged picture, made as the plan says.

    With `alpha`, uint8 [H, W], it has a fourth plane: alpha enlarged by bicubic interpolation.
    """
    device = device_of(model)
    height, width = image.shape[:2]
    rows = spans(height, plan.tile, plan.margin, not plan.exact)
    columns = spans(width, plan.tile, plan.margin, not plan.exact)
    total = len(rows) * len(columns) + (plan.convolutions if plan.whole_features else 0)
    done = 0

    def step(*_: object) -> None:
        nonlocal done
        done += 1
        progress(min(done, total), total)

    def given(pixels: np.ndarray) -> torch.Tensor:
        x = to_tensor(pixels).to(device)
        return unit_luma(x) if model.colours == "y" else x

    def make(row: Span, column: Span) -> torch.Tensor:
        window = slice(row.read_start, row.read_stop), slice(column.read_start, column.read_stop)
        pixels = image[window]
        x = given(pixels)
        features = model.features(x) if whole is None else whole[:, :, window[0], window[1]]
        y = model.reconstruct(x, features)
        model.check_output(x, y, "the picture")
        y = y[0].cpu()
        if model.colours == "y":
            rgb = to_levels(bicubic(pixels, model.scale))[0]
            y = (with_luma(rgb, y.double() * 255) / 255).float()
        if alpha is not None:
            y = torch.cat((y, to_tensor(bicubic(alpha[window][..., None], model.scale))[0]))
        step()
        top = (row.kept_start - row.read_start) * model.scale
        left = (column.kept_start - column.read_start) * model.scale
        tall = (row.kept_stop - row.kept_start) * model.scale
        wide = (column.kept_stop - column.kept_start) * model.scale
        return y[:, top : top + tall, left : left + wide]

    whole: torch.Tensor | None = None
    with evaluating(model):
        if plan.whole_features:
            convolutions = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
            with observing(convolutions, step):
                whole = model.features(given(image))
            done = plan.convolutions
        return assemble(rows, columns, model.scale, 3 if alpha is None else 4, make)


def upscale_picture(
    model: SRNetwork, picture: Picture, plan: Plan, progress: Progress = lambda done, total: None
) -> Picture:
    """Return the enlarged picture with its alpha (by bicubic interpolation), greyness, profile."""
    made = run(model, picture.rgb, plan, progress, picture.alpha)
    alpha = None if picture.alpha is None else made[..., 3]
    return Picture(made[..., :3], picture.grey, alpha, picture.icc)


def upscale_fitting(
    model: SRNetwork,
    picture: Picture,
    planner: Planner,
    name: str,
    progress: Progress = lambda done, total: None,
) -> tuple[Picture, Plan]:
    """Return the enlarged picture, and the plan by which it was made.

    Where memory runs out it is made again with smaller tiles, and a warning that names the picture
    says so. Raises PtqsrError as `Planner.plan` does, and what PyTorch raised where no plan is left
    that takes less.
    """
    height, width = picture.rgb.shape[:2]
    plan = planner.plan(height, width)
    while True:
        try:
            return upscale_picture(model, picture, plan, progress), plan
        except (MemoryError, RuntimeError) as error:
            smaller = planner.smaller(plan, height, width) if is_out_of_memory(error) else None
            if smaller is None:
                raise
        # Out here what the attempt left behind is no longer held by its traceback.
        if device_of(model).type == "cuda":
            torch.cuda.empty_cache()
        log.warning("%s: out of memory by %s; once more by %s", name, plan, smaller)
        plan = smaller
