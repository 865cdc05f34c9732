"""The 8-bit PAMS network that CADyQ starts from and learns from."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import torch

from ptqsr.config import Config
from ptqsr.errors import PtqsrError, one_line
from ptqsr.models import SRNetwork
from ptqsr.training.methods.options import Options
from ptqsr.training.methods.pams import PAMS

TEACHER_BITS = 8


def read_teacher(
    run: Path, network: SRNetwork, lr: torch.Tensor, wanted: Config
) -> tuple[SRNetwork, str]:
    """Return (the averaged network of a run of PAMS, a digest of its numbers).

    network: the float network, which stays as it is; lr: an input batch of it. `wanted` says which
    convolutions are quantized. The result is trainable in form, and frozen. Raises PtqsrError where
    the folder holds no such run, or that of another network.
    """
    path = run / "state.pt"
    if not path.is_file():
        raise PtqsrError(
            f"{run}: holds no training run; make one with `ptqsr finetune --method pams --bits "
            f"{TEACHER_BITS} -o {run}` and name it with --teacher"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        made, average = dict(state["identity"]), dict(state["average"])
    except Exception as error:
        raise PtqsrError(f"{path}: no readable training state ({one_line(error)})") from None
    needed: dict[str, Any] = {
        "method": "pams",
        "placement": "deployable",
        "weight_bits": TEACHER_BITS,
        "act_bits": TEACHER_BITS,
        "include": wanted.include,
        "exclude": wanted.exclude,
        "architecture": network.architecture,
        **network.hyperparameters,
    }
    for name, value in needed.items():
        if _plain(made.get(name)) != _plain(value):
            raise PtqsrError(
                f"{path}: the teacher was made with {name} = {made.get(name)}, not {value}"
            )
    bits = TEACHER_BITS
    layers = Config(method="pams", bits=bits, include=wanted.include, exclude=wanted.exclude)
    taught = PAMS(Options(layers)).begin(copy.deepcopy(network), lr)
    try:
        taught.load_state_dict(average)
    except RuntimeError as error:
        raise PtqsrError(f"{path}: is of another network ({one_line(error)})") from None
    digest = hashlib.sha256()
    for name, tensor in sorted(average.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return taught.eval().requires_grad_(False), digest.hexdigest()[:16]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
