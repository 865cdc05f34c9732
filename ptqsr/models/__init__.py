"""The zoo: networks by name, weights by file, and a user's own module."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.models import from_spandrel, official
from ptqsr.models.base import (
    Colours,
    SRNetwork,
    check_network,
    device_of,
    evaluating,
    matches,
    sketch,
)
from ptqsr.models.lockstep import Lockstep
from ptqsr.models.observing import observing
from ptqsr.models.official import SOURCES as OFFICIAL
from ptqsr.models.patchwise import PatchWise
from ptqsr.models.registry import ARCHITECTURES, check, create, detect
from ptqsr.models.weights import digest_of, fill, read_state_dict, transfer
from ptqsr.models.wrapped import WrappedNetwork

DEFAULT_SCALE = 4

log = logging.getLogger("ptqsr")

__all__ = [
    "ARCHITECTURES",
    "OFFICIAL",
    "Lockstep",
    "PatchWise",
    "SRNetwork",
    "build",
    "bundled",
    "check_network",
    "device_of",
    "digest_of",
    "evaluating",
    "load",
    "matches",
    "observing",
    "rebuild",
    "sketch",
    "transfer",
    "wrap",
]


def bundled() -> list[str]:
    """Return the names of the weights in the package, as `edsr_x4`."""
    folder = files("ptqsr.models") / "bundled"
    return sorted(
        entry.name.removesuffix(".safetensors")
        for entry in folder.iterdir()
        if entry.name.endswith(".safetensors")
    )


def build(
    name: str,
    *,
    scale: int | None = None,
    weights: str | Path | None = "bundled",
    **hyperparameters: Any,
) -> SRNetwork:
    """Return a network of the zoo in evaluation mode.

    `weights` is "bundled" (the package's own), "official" (the authors', fetched once), a file
    (.pt, .pth, .safetensors, .npz), or None for an untrained network. Hyperparameters that are not
    given follow from the shapes in the file, or else are those of the baseline; the scale is the
    file's, or else 4. Raises PtqsrError where there are no such weights or they do not fit.

    >>> net = build("edsr", weights=None, blocks=2, width=16)
    >>> net.scale, sum(p.numel() for p in net.parameters())
    (4, 31043)
    """
    chosen = DEFAULT_SCALE if scale is None else scale
    check(name, chosen)
    if weights is None:
        return create(name, scale=chosen, **hyperparameters).eval()
    if weights == "official":
        return _from_file(official.fetch(name, chosen), chosen, name, hyperparameters)
    if weights != "bundled":
        return _from_file(weights, scale, name, hyperparameters)
    if f"{name}_x{chosen}" not in bundled():
        more = ", weights=official fetches its authors'" if (name, chosen) in OFFICIAL else ""
        raise PtqsrError(
            f"no weights of {name} x{chosen} are bundled (only {', '.join(bundled()) or 'none'}"
            f"{more}); give a file with --weights"
        )
    with as_file(files("ptqsr.models") / "bundled" / f"{name}_x{chosen}.safetensors") as path:
        return _from_file(path, chosen, name, hyperparameters)


def load(path: str | Path, *, scale: int | None = None) -> SRNetwork:
    """Return the network whose weights a file holds; all else is deduced from the tensor shapes.

    `scale` is needed where the file does not tell it (IDN), and chooses where the file holds
    several (CARN; by default x4). Raises PtqsrError where the file belongs to no architecture of
    the zoo.
    """
    return _from_file(path, scale, None, {})


def _from_file(
    path: str | Path, scale: int | None, name: str | None, hyperparameters: Mapping[str, Any]
) -> SRNetwork:
    """Return the network of a file; `name`, where given, is the architecture it must have."""
    state = read_state_dict(path)
    found = detect(state, scale)
    if found is None and name is None:
        return _from_spandrel(state, path, scale)
    hint, deduced = "", {"scale": scale or DEFAULT_SCALE}
    if found is not None and name in (None, found[0]):
        name, deduced = found
        if deduced["scale"] is None:
            raise PtqsrError(
                f"{path}: a file of {name} does not tell its scale; give --scale 2, 3 or 4"
            )
        if scale not in (None, deduced["scale"]):
            raise PtqsrError(f"{path}: is for scale {deduced['scale']}, not {scale}")
        named = re.search(r"x([234])(?![0-9])", Path(path).stem)
        if named and int(named[1]) != deduced["scale"]:
            log.warning("%s: is taken for x%s, though its name says %s", path, scale, named[0])
    else:
        hint = f"; it looks like {found[0] if found else 'none of the zoo'}"
    assert name is not None
    network = create(name, **{**deduced, **hyperparameters})
    fill(network, state, path, hint)
    return network.eval()


def _from_spandrel(
    state: Mapping[str, torch.Tensor], path: str | Path, scale: int | None
) -> SRNetwork:
    """Return the network of a file that is none of the zoo."""
    network = from_spandrel.load(state, path) if from_spandrel.installed() else None
    if network is None:
        names = ", ".join(list(state)[:3])
        more = "spandrel knows it neither"
        if not from_spandrel.installed():
            more = f"{from_spandrel.INSTALL} adds 40 architectures"
        raise PtqsrError(
            f"{path}: is none of {', '.join(ARCHITECTURES)}; its tensors begin with {names}; "
            f"{more}; wrap a network of your own with ptqsr.models.wrap"
        )
    if scale not in (None, network.scale):
        raise PtqsrError(f"{path}: is for scale {network.scale}, not {scale}")
    return network


def rebuild(architecture: str, hyperparameters: Mapping[str, Any]) -> SRNetwork:
    """Return an untrained network by what it keeps of itself: of the zoo, or of spandrel's.

    Raises PtqsrError where there is none such.
    """
    if architecture == from_spandrel.SpandrelNetwork.architecture:
        return from_spandrel.SpandrelNetwork(**hyperparameters).eval()
    return create(architecture, **hyperparameters).eval()


def wrap(
    module: nn.Module,
    *,
    scale: int | None = None,
    value_range: float = 1.0,
    colours: Colours = "rgb",
    multiple_of: int = 1,
) -> SRNetwork:
    """Return a user's own module as a network that the rest of ptqsr takes.

    `module` maps [N, C, H, W] in [0, value_range] to [N, C, scale H, scale W] in the same range,
    with C = 3 ("rgb") or 1 ("y"); a scale that is not given is found. Pictures whose sides are not
    multiples of `multiple_of` are padded. The module is not copied, and keeps its mode.

    It runs once, in evaluation mode, to see what its layers do: quantized are, by default, the
    convolutions, transposed convolutions and linear layers after the first, up to the last shortcut
    before it enlarges (`places()` of what is returned says what each is, and why).
    """
    return WrappedNetwork(
        module=module,
        scale=scale,
        value_range=value_range,
        colours=colours,
        multiple_of=multiple_of,
    )
