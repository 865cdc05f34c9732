"""What CADyQ chooses from, by what, and how hard it is pressed to choose few bits."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ptqsr.config import MAX_BITS, MIN_BITS
from ptqsr.errors import PtqsrError
from ptqsr.quantizers import CHOICES

BIT_LOSSES = ("weighted", "plain")
# Steps after which w_reg has grown by `bit_weight_growth`.
GROWTH_STEPS = 1000


@dataclass(frozen=True)
class Selection:
    """Frozen; raises PtqsrError for a value out of range.

    `teacher`: the folder of a run of PAMS with 8 bits, from which CADyQ starts and learns.
    `candidates`: the bits of features to choose from. `choose_by`: "both", "layer" (the same for
    every patch) or "patch" (the same for every layer) (Table 2); "range", "std" or "layer-std":
    both by other measures (Table 3). `bit_loss`: "weighted" (Eq. 7) or
    "plain" (Eq. 6), which counts `bit_weight` (w_reg) + `bit_weight_growth` for every 1,000 steps.
    `feature_weight`: w_kdf, of the distillation from each layer's output. `unsigned_after_relu`:
    what is never negative is quantized over [0, a]. `weights_follow_bits`: patches of 4 bits or
    fewer get 4-bit weights, rounded from the 8-bit ones.
    """

    teacher: Path
    candidates: tuple[int, ...] = (4, 6, 8)
    choose_by: str = "both"
    bit_loss: str = "weighted"
    bit_weight: float = 1e-4
    bit_weight_growth: float = 1e-6
    feature_weight: float = 100.0
    unsigned_after_relu: bool = False
    weights_follow_bits: bool = False

    def __post_init__(self) -> None:
        bits = self.candidates
        in_range = all(type(b) is int and MIN_BITS <= b <= MAX_BITS for b in bits)
        if len(bits) < 2 or not in_range or list(bits) != sorted(set(bits)):
            raise PtqsrError(
                f"candidates are {', '.join(map(str, bits))}; give two or more different "
                f"bit-widths from {MIN_BITS} to {MAX_BITS}, the fewest first, as 4,6,8"
            )
        for name, known in (("choose_by", tuple(CHOICES)), ("bit_loss", BIT_LOSSES)):
            if getattr(self, name) not in known:
                chosen = getattr(self, name)
                raise PtqsrError(f"{name} {chosen!r} is unknown; choose {' or '.join(known)}")
        weights = {
            "bit_loss_weight": self.bit_weight,
            "bit_loss_growth": self.bit_weight_growth,
            "feature_weight": self.feature_weight,
        }
        for name, value in weights.items():
            if not (value >= 0 and math.isfinite(value)):
                raise PtqsrError(f"{name} is {value}; it must be a finite number, at least 0")

    def bit_weight_at(self, step: int) -> float:
        """Return w_reg of a step, counted from 0."""
        return self.bit_weight + self.bit_weight_growth * step / GROWTH_STEPS

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        del record["teacher"]  # the weights in it count, not where they are
        return {**record, "candidates": list(self.candidates)}
