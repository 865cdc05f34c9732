"""What `ptqsr finetune --method cadyq` is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ptqsr.errors import PtqsrError
from ptqsr.training.methods import Selection
from ptqsr.training.methods.teacher import TEACHER_BITS


def selection_of(
    teacher: Path | None, given: dict[str, Any], *, bits: int | None, act_bits: int | None
) -> Selection:
    """Return CADyQ's options; `given`: those on the command line, the candidates as "4,6,8"."""
    if bits is not None or act_bits is not None:
        option = "--bits" if bits is not None else "--act-bits"
        raise PtqsrError(
            f"{option}: cadyq chooses the bits of features; name --candidates, as 4,6,8"
        )
    if teacher is None:
        raise PtqsrError(
            "cadyq starts and learns from an 8-bit PAMS network; make one with `ptqsr finetune "
            f"--method pams --bits {TEACHER_BITS} -o RUN`, then name it: --teacher RUN"
        )
    names = {"bit_loss_weight": "bit_weight", "bit_loss_growth": "bit_weight_growth"}
    given = {names.get(name, name): value for name, value in given.items()}
    if "candidates" in given:
        try:
            given["candidates"] = tuple(int(b) for b in given["candidates"].split(","))
        except ValueError:
            raise PtqsrError(
                f"--candidates {given['candidates']}: give bit-widths with commas, as 4,6,8"
            ) from None
    return Selection(teacher, **given)
