"""Bits for each layer under a limit: an integer program, solved by HiGHS."""

from __future__ import annotations

import numpy as np

from ptqsr.errors import PtqsrError
from ptqsr.sensitivity.records import Choice, LayerSensitivity, Sensitivity

# How far from the best, relatively, a choice may be proven to be no farther.
GAP = 1e-4


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
    if target_bits is not None:
        chosen = _solve(loss, share, target_bits, owner)
        least = f"{sum(min(row.losses) * row.macs for row in body) / macs:g} bits"
    else:
        assert max_drop is not None
        chosen = _solve(share, loss, max_drop - fixed, owner)
        best = sum(min(_loss(row, b, True) for b in row.losses) for row in body)
        least = f"{best + fixed:.3g} dB"
    if chosen is None:
        limit = f"target_bits {target_bits}" if max_drop is None else f"max_drop {max_drop} dB"
        raise PtqsrError(f"{limit}: no choice keeps to it; the least here is {least}")
    return Choice(
        {body[i].name: bits for (i, bits), is_it in zip(options, chosen, strict=True) if is_it},
        float(share[chosen].sum()),
        float(loss[chosen].sum()) + fixed,
        measured.in_db,
    )


def _loss(row: LayerSensitivity, bits: int, in_db: bool) -> float:
    loss = row.losses[bits]
    return loss.drop if in_db and loss.drop is not None else loss.mse


def _solve(
    least: np.ndarray, limited: np.ndarray, limit: float, owner: np.ndarray
) -> np.ndarray | None:
    """Return which options to take, one of every owner's, bool; None where none keeps the limit."""
    # They take long to import, and few commands need them.
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    count = len(owner)
    one_each = csr_array((np.ones(count), (owner, np.arange(count))))
    scale = np.abs(least).max() or 1.0  # HiGHS takes numbers near 1e-7 for 0
    result = milp(
        least / scale,
        integrality=np.ones(count),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),  # type: ignore[arg-type]
            LinearConstraint(
                limited[None] / (unit := np.abs(limited).max() or 1.0), -np.inf, limit / unit
            ),
        ],
        options={"mip_rel_gap": GAP},
    )
    return None if result.x is None else result.x > 0.5
