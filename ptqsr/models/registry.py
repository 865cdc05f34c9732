"""The zoo's table: one row for every architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ptqsr.errors import PtqsrError
from ptqsr.models import edsr, imdn
from ptqsr.models.base import SRNetwork

SCALES = (2, 3, 4)


@dataclass(frozen=True)
class Architecture:
    """A network class, and how its hyperparameters show in the shapes of its tensors."""

    network: type[SRNetwork]
    detect: Callable[[Mapping[str, torch.Size]], dict[str, Any] | None]


ARCHITECTURES: dict[str, Architecture] = {
    row.network.architecture: row
    for row in (
        Architecture(edsr.EDSR, edsr.hyperparameters),
        Architecture(imdn.IMDN, imdn.hyperparameters),
    )
}


def create(name: str, **hyperparameters: Any) -> SRNetwork:
    """Return an untrained network; raises PtqsrError for an unknown name or hyperparameter."""
    if name not in ARCHITECTURES:
        raise PtqsrError(f"model {name!r} is unknown; choose one of {', '.join(ARCHITECTURES)}")
    if hyperparameters.get("scale", SCALES[0]) not in SCALES:
        raise PtqsrError(f"scale {hyperparameters['scale']} is unknown; choose one of {SCALES}")
    try:
        return ARCHITECTURES[name].network(**hyperparameters)
    except TypeError as error:
        raise PtqsrError(f"model {name!r}: {error}") from None


def detect(state: Mapping[str, torch.Tensor]) -> tuple[str, dict[str, Any]] | None:
    """Return the architecture and hyperparameters that a state dict belongs to, None if unknown."""
    shapes = {name: tensor.shape for name, tensor in state.items()}
    for name, row in ARCHITECTURES.items():
        try:
            found = row.detect(shapes)
        except (IndexError, ValueError):
            continue  # names of this architecture, but tensors of too few dimensions
        if found is not None and found["scale"] in SCALES and min(found.values()) > 0:
            return name, found
    return None
