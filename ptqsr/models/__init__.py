"""The zoo: networks by name, weights by file, and a user's own module."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.models.base import Colours, SRNetwork, check_network
from ptqsr.models.registry import ARCHITECTURES, create, detect
from ptqsr.models.weights import fill, read_state_dict
from ptqsr.models.wrapped import WrappedNetwork

DEFAULT_SCALE = 4

__all__ = [
    "ARCHITECTURES",
    "SRNetwork",
    "build",
    "bundled",
    "check_network",
    "load",
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
    scale: int | None = 4,
    weights: str | Path | None = "bundled",
    **hyperparameters: Any,
) -> SRNetwork:
    """Return a network of the zoo in evaluation mode.

    `weights` is "bundled" (the package's own), a file (.pt, .pth, .safetensors, .npz), or None for
    an untrained network. Hyperparameters that are not given follow from the shapes in the file,
    or else are those of the baseline; so does the scale where it is None. Raises PtqsrError where
    there are no such weights or they do not fit.

    >>> net = build("edsr", scale=4, weights=None, blocks=2, width=16)
    >>> sum(p.numel() for p in net.parameters())
    31043
    """
    chosen = DEFAULT_SCALE if scale is None else scale
    if weights not in (None, "bundled"):
        state = read_state_dict(weights)
        found = detect(state)
        deduced = found[1] if found is not None and found[0] == name else {}
        if scale is not None and deduced.get("scale", scale) != scale:
            raise PtqsrError(f"{weights}: is for scale {deduced['scale']}, not {scale}")
        network = create(name, **{"scale": chosen, **deduced, **hyperparameters})
        hint = f"; it looks like {found[0]}" if found is not None and found[0] != name else ""
        fill(network, state, weights, hint)
        return network.eval()
    network = create(name, scale=chosen, **hyperparameters)
    if weights is None:
        return network.eval()
    if f"{name}_x{chosen}" not in bundled():
        raise PtqsrError(
            f"no weights of {name} x{chosen} are bundled (only {', '.join(bundled()) or 'none'}); "
            "give a file with --weights"
        )
    with as_file(files("ptqsr.models") / "bundled" / f"{name}_x{chosen}.safetensors") as path:
        return build(name, scale=chosen, weights=path, **hyperparameters)


def load(path: str | Path) -> SRNetwork:
    """Return the network whose weights a file holds; all else is deduced from the tensor shapes.

    Raises PtqsrError where the file belongs to no architecture of the zoo.
    """
    state = read_state_dict(path)
    found = detect(state)
    if found is None:
        names = ", ".join(list(state)[:3])
        raise PtqsrError(
            f"{path}: is none of {', '.join(ARCHITECTURES)}; its tensors begin with {names}; "
            "wrap a network of your own with ptqsr.models.wrap"
        )
    network = create(found[0], **found[1])
    fill(network, state, path)
    return network.eval()


def wrap(
    module: nn.Module, *, scale: int, value_range: float = 1.0, colours: Colours = "rgb"
) -> SRNetwork:
    """Return a user's own module as a network that the rest of ptqsr takes.

    `module` maps [N, C, H, W] in [0, value_range] to [N, C, scale H, scale W] in the same range,
    with C = 3 ("rgb") or 1 ("y"). It is not copied. Every convolution but the first and the last
    (in the order in which the module registers them) is quantized by default.
    """
    return WrappedNetwork(
        module=module, scale=scale, value_range=value_range, colours=colours
    ).eval()
