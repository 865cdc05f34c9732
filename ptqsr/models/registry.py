"""The zoo's table: one row for every architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ptqsr.errors import PtqsrError
from ptqsr.models import carn, edsr, idn, imdn, rdn, srresnet
from ptqsr.models.base import SRNetwork

SCALES = (2, 3, 4)
# Of any hyperparameter, so that a mistaken file does not ask for a network of a million blocks.
MAX_SIZE = 4096


# From the shapes of a file's tensors, and the scale that is asked for (None: any), to the network's
# hyperparameters, or None where the file is another network's. Their scale is None where neither
# tells it.
Detect = Callable[[Mapping[str, torch.Size], int | None], dict[str, Any] | None]


@dataclass(frozen=True)
class Architecture:
    """A network class, how it is called in print, and how a file shows its hyperparameters."""

    network: type[SRNetwork]
    title: str
    detect: Detect


ARCHITECTURES: dict[str, Architecture] = {
    row.network.architecture: row
    for row in (
        Architecture(edsr.EDSR, "EDSR-baseline", edsr.hyperparameters),
        Architecture(rdn.RDN, "RDN", rdn.hyperparameters),
        Architecture(srresnet.SRResNet, "SRResNet", srresnet.hyperparameters),
        Architecture(carn.CARN, "CARN", carn.hyperparameters),
        Architecture(carn.CARNM, "CARN-M", carn.mobile_hyperparameters),
        Architecture(idn.IDN, "IDN", idn.hyperparameters),
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
    for key, value in hyperparameters.items():
        if isinstance(value, (int, float)) and not 0 <= value <= MAX_SIZE:
            raise PtqsrError(f"model {name!r}: {key} is {value}; it must be from 0 to {MAX_SIZE}")
    try:
        return ARCHITECTURES[name].network(**hyperparameters)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise PtqsrError(f"model {name!r}: {reason}") from None


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
        if all(value > 0 for value in found.values() if isinstance(value, (int, float))):
            return name, found
    return None
