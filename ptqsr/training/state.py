"""`state.pt`: all that a killed run needs to go on."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ptqsr.errors import PtqsrError, one_line
from ptqsr.files import replacing
from ptqsr.training.config import TrainConfig

STATE = "state.pt"
STATE_VERSION = 1
# What a resumed run may do otherwise than the run it goes on with.
MAY_CHANGE = ("steps", "validate_every", "device", "precision")


def write_state(run: Path, state: Mapping[str, Any]) -> None:
    # By way of memory, since torch.save turns a full disk into a RuntimeError of its own.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with replacing(run / STATE) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_state(run: Path) -> dict[str, Any]:
    """Return what `write_state` wrote. Raises PtqsrError where it is unreadable."""
    path = run / STATE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = one_line(error)
        raise PtqsrError(f"{path}: no readable training state ({reason})") from None
    if not isinstance(state, dict) or not isinstance(state.get("identity"), dict):
        raise PtqsrError(f"{path}: holds no training state; name the folder of a run")
    return state


def check_same(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise PtqsrError where a state's run is another one than ours."""
    defaults = TrainConfig().to_json()  # of options that the state's ptqsr did not have
    theirs = {**defaults, **theirs, **{name: ours[name] for name in MAY_CHANGE if name in ours}}
    for name in ours:
        if ours[name] != theirs.get(name):
            raise PtqsrError(
                f"{path}: was made with {name} = {theirs.get(name)}, not {ours[name]}; "
                "use the same options, or train into another folder"
            )
