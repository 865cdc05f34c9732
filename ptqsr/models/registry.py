"""The zoo's table: one row for every architecture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from ptqsr.errors import PtqsrError, one_line
from ptqsr.models import carn, edsr, idn, imdn, rdn, srresnet
from ptqsr.models.base import SRNetwork
from ptqsr.models.bounds import most_elements

SCALES = (2, 3, 4)
# Of any hyperparameter, and of blocks times layers, so that a mistaken file does not ask for a
# network of a million blocks.
MAX_SIZE, MAX_DEPTH = 4096, 1024

# From the shapes of a file's tensors, and the scale that is asked for (None: any), to the network's
# hyperparameters, or None where the file is another network's. Their scale is None where neither
# tells it.
Detect = Callable[[Mapping[str, torch.Size], int | None], dict[str, Any] | None]


@dataclass(frozen=True)
class Architecture:
    """A network class, how it is called in print, and how a file shows its hyperparameters.

    `variants`: hyperparameters of other networks that the field uses, by their names in print.
    """

    network: type[SRNetwork]
    title: str
    detect: Detect
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


ARCHITECTURES: dict[str, Architecture] = {
    row.network.architecture: row
    for row in (
        Architecture(
            edsr.EDSR,
            "EDSR-baseline",
            edsr.hyperparameters,
            {"EDSR": {"blocks": 32, "width": 256}, "EDSR-baseline, BN": {"batch_norm": True}},
        ),
        Architecture(rdn.RDN, "RDN", rdn.hyperparameters),
        Architecture(srresnet.SRResNet, "SRResNet", srresnet.hyperparameters),
        Architecture(carn.CARN, "CARN", carn.hyperparameters),
        Architecture(carn.CARNM, "CARN-M", carn.mobile_hyperparameters),
        Architecture(idn.IDN, "IDN", idn.hyperparameters, {"IDN on luma": {"colours": "y"}}),
        Architecture(imdn.IMDN, "IMDN", imdn.hyperparameters),
    )
}


def check(name: str, scale: int | None) -> None:
    """Raise PtqsrError for an unknown architecture or scale."""
    if name not in ARCHITECTURES:
        raise PtqsrError(f"model {name!r} is unknown; choose one of {', '.join(ARCHITECTURES)}")
    if scale is not None and scale not in SCALES:
        raise PtqsrError(f"scale {scale} is unknown; choose one of {SCALES}")


def create(name: str, **hyperparameters: Any) -> SRNetwork:
    """Return an untrained network; raises PtqsrError for an unknown name or hyperparameter."""
    check(name, hyperparameters.get("scale"))
    network = ARCHITECTURES[name].network
    kinds = get_type_hints(network.__init__)
    for key, value in hyperparameters.items():
        if key not in kinds:
            names = ", ".join(sorted(kinds.keys() - {"return"}))
            raise PtqsrError(f"model {name!r} has no {key}; it has {names}")
        if not _is_a(kinds[key], value):
            kind = getattr(kinds[key], "__name__", kinds[key])
            raise PtqsrError(f"model {name!r}: {key} is {value!r}; it must be {kind}")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and not 0 < value <= MAX_SIZE:
            raise PtqsrError(
                f"model {name!r}: {key} is {value}; it must be above 0 and at most {MAX_SIZE}"
            )
    deep = kinds.keys() & hyperparameters.keys() & {"blocks", "layers"}
    depth = math.prod(hyperparameters[key] for key in deep)
    if depth > MAX_DEPTH:
        raise PtqsrError(f"model {name!r}: {depth} blocks or layers are more than {MAX_DEPTH}")
    try:
        return network(**hyperparameters)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PtqsrError(f"model {name!r}: {one_line(error)}") from None


def _is_a(kind: Any, value: object) -> bool:
    """Return whether a value is what an annotation says; an int is a float too."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) or (isinstance(value, int) and isinstance(0.0, kind))


def detect(
    state: Mapping[str, torch.Tensor], scale: int | None = None
) -> tuple[str, dict[str, Any]] | None:
    """Return the architecture and hyperparameters that a state dict belongs to, None if unknown.

    `scale` chooses where a file holds several scales, and tells where it holds no hint.
    """
    shapes = {name: tensor.shape for name, tensor in state.items()}
    for name, row in ARCHITECTURES.items():
        try:
            found = row.detect(shapes, scale)
        except (IndexError, ValueError, ZeroDivisionError):
            continue  # names of this architecture, but tensors of too few dimensions
        if found is None or found["scale"] not in (None, *SCALES):
            continue
        if _is_plausible(name, found, shapes):
            return name, found
    return None


def _is_plausible(
    name: str, hyperparameters: Mapping[str, Any], shapes: Mapping[str, torch.Size]
) -> bool:
    """Return whether there is such a network, and a file of such tensors may hold it.

    A few small tensors, or large ones without elements, may look like a network of gigabytes.
    """
    scale = hyperparameters["scale"] or SCALES[0]
    try:
        with torch.device("meta"):
            network = create(name, **{**hyperparameters, "scale": scale})
    except PtqsrError:
        return False
    size = sum(tensor.numel() for tensor in network.state_dict().values())
    held = sum(shape.numel() for shape in shapes.values())
    return size <= most_elements(held)
