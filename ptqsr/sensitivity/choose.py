"""Bits for each layer under a limit."""

from __future__ import annotations

import math

import numpy as np

from ptqsr.errors import PtqsrError
from ptqsr.sensitivity.knapsack import cheapest
from ptqsr.sensitivity.records import Choice, LayerSensitivity, Sensitivity


def choose(
    measured: Sensitivity, *, target_bits: float | None = None, max_drop: float | None = None
) -> Choice:
    """Return the bits of every layer of the body, of those that were measured.

    With `target_bits` the sum of the layers' losses is least while the mean of their bits, weighted
    by their multiply-accumulates, is at most that. With `max_drop` (dB) that mean is least while
    the sum of the losses, those of the edges too, is at most that. Raises PtqsrError where no
    choice keeps to the limit.
    """
    if (target_bits is None) == (max_drop is None):
        raise PtqsrError("choose: give target_bits or max_drop")
    name, limit, unit = (
        ("target_bits", target_bits, "") if max_drop is None else ("max_drop", max_drop, " dB")
    )
    assert limit is not None
    if not math.isfinite(limit):
        raise PtqsrError(f"{name} is {limit}; give a number")
    if max_drop is not None and not measured.in_db:
        raise PtqsrError("max_drop: losses in dB need true pictures; give target_bits")
    body = [row for row in measured.layers if row.body]
    if not body:
        raise PtqsrError("choose: no layer of the body was measured")
    edges = [row for row in measured.layers if not row.body]
    fixed = sum(_loss(row, bits, measured.in_db) for row in edges for bits in row.losses)
    macs = sum(row.macs for row in body)
    # A variable for each layer and bit-width: whether the layer has it.
    options = [(i, bits) for i, row in enumerate(body) for bits in sorted(row.losses)]
    share = np.array([bits * body[i].macs / macs for i, bits in options])
    loss = np.array([_loss(body[i], bits, measured.in_db) for i, bits in options])
    owner = np.array([i for i, _ in options])
    if max_drop is None:
        chosen = cheapest(loss, share, limit, owner)
        least = sum(min(row.losses) * row.macs for row in body) / macs
    else:
        chosen = cheapest(share, loss, limit - fixed, owner)
        least = sum(min(_loss(row, b, True) for b in row.losses) for row in body) + fixed
    if chosen is None:
        raise PtqsrError(
            f"{name} {limit:g}{unit}: no choice keeps to it; the least here is "
            f"{least:.3g}{unit or ' bits'}"
        )
    return Choice(
        {body[i].name: bits for (i, bits), is_it in zip(options, chosen, strict=True) if is_it},
        float(share[chosen].sum()),
        float(loss[chosen].sum()) + fixed,
        measured.in_db,
    )


def _loss(row: LayerSensitivity, bits: int, in_db: bool) -> float:
    loss = row.losses[bits]
    return loss.drop if in_db and loss.drop is not None else loss.mse
