"""The 8-bit PAMS network that CADyQ starts from and learns from."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import torch

from ptqsr.config import Config
from ptqsr.errors import PtqsrError, one_line
from ptqsr.models import SRNetwork, digest_of
from ptqsr.training.methods.options import Options
from ptqsr.training.methods.pams import PAMS
from ptqsr.training.state import STATE, read_state

log = logging.getLogger("ptqsr")
TEACHER_BITS = 8


def read_teacher(run: Path, network: SRNetwork, wanted: Config) -> dict[str, Any]:
    """Return the state of a run of PAMS, checked against the float network that is trained.

    `wanted` says which convolutions are quantized. Raises PtqsrError where the folder holds no such
    run, or that of another network.
    """
    path = run / STATE
    if not path.is_file():
        raise PtqsrError(
            f"{run}: holds no training run; make one with `ptqsr finetune --method pams --bits "
            f"{TEACHER_BITS} -o {run}` and name it with --teacher"
        )
    state = read_state(run)
    needed: dict[str, Any] = {
        "method": "pams",
        "placement": "deployable",
        "weight_bits": TEACHER_BITS,
        "act_bits": TEACHER_BITS,
        "include": wanted.include,
        "exclude": wanted.exclude,
        "architecture": network.architecture,
        **network.hyperparameters,
        "weights": f"of digest {digest_of(network.state_dict())}",
    }
    for name, value in needed.items():
        theirs = state["identity"].get(name)
        if _plain(theirs) != _plain(value):
            raise PtqsrError(
                f"{path}: the teacher was made with {name} = {theirs}, not {value}; give the same "
                "network and options as for it, or name another teacher"
            )
    return state


def rebuild(
    run: Path, state: dict[str, Any], network: SRNetwork, lr: torch.Tensor, wanted: Config
) -> SRNetwork:
    """Return the averaged network of a state, trainable in form, and frozen.

    network: the float network, which stays as it is; lr: an input batch of it.
    """
    bits = TEACHER_BITS
    layers = Config(method="pams", bits=bits, include=wanted.include, exclude=wanted.exclude)
    taught = PAMS(Options(layers)).begin(copy.deepcopy(network), lr)
    try:
        taught.load_state_dict(state["average"])
    except RuntimeError as error:
        raise PtqsrError(f"{run / STATE}: is of another network ({one_line(error)})") from None
    done, steps = state["step"], state["identity"]["steps"]
    if done < steps:
        log.warning("%s: the teacher has had %d of its %d steps", run, done, steps)
    return taught.eval().requires_grad_(False)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
