"""Networks that users name: a checkpoint, a weight file, or bundled weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ptqsr import checkpoint, models
from ptqsr.errors import PtqsrError

Scale = Annotated[
    int | None,
    typer.Option(
        help="2, 3 or 4, for weight files that hold several scales or do not tell theirs."
    ),
]


def open_network(name: str, scale: int | None = None) -> models.SRNetwork:
    """Return the network of a checkpoint, of a weight file, or of a bundled name as `edsr_x4`.

    `scale` is for weight files that leave it open.
    """
    if name in models.bundled() and not Path(name).exists():
        architecture, _, bundled_scale = name.rpartition("_x")
        return models.build(architecture, scale=int(bundled_scale))
    if not Path(name).exists() and Path(name).name == Path(name).stem == name:
        raise PtqsrError(
            f"{name}: no such file, nor bundled weights: {', '.join(models.bundled())}"
        )
    return (
        checkpoint.load(name) if checkpoint.is_checkpoint(name) else models.load(name, scale=scale)
    )
