"""What a training run is: every figure that its result depends on, besides code and pictures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ptqsr.errors import PtqsrError

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class TrainConfig:
    """Frozen, JSON-serialisable; raises PtqsrError for a value out of range.

    Adam's learning rate rises linearly over `warmup` steps and falls by a half cosine to
    `final_learning_rate`; or, where there are `phases`, it is halved from each of so many equal
    parts of the run to the next. `clip` bounds the gradient's norm for a loss in grey levels. `ema`
    is the decay of the averaged weights, which are what the run delivers.
    """

    steps: int = 20_000
    batch_size: int = 16
    patch_size: int = 32  # LR pixels
    learning_rate: float = 5e-4
    final_learning_rate: float = 1e-6
    warmup: int = 500
    phases: int = 0
    clip: float = 50.0
    ema: float = 0.999
    validation_images: int = 10  # set aside from the training pictures
    validate_every: int = 1000
    precision: Precision = "auto"
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"steps": 1, "batch_size": 1, "patch_size": 8, "validate_every": 1, "warmup": 0}
        limits |= {"phases": 0, "validation_images": 0, "final_learning_rate": 0, "seed": 0}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise PtqsrError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        finite = 0 < self.learning_rate < math.inf and self.final_learning_rate < math.inf
        if not (finite and self.clip > 0 and 0 <= self.ema < 1):
            raise PtqsrError("learning_rate and clip must be positive, ema in [0, 1)")

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.phases:
            phase = min(step, self.steps - 1) * self.phases // self.steps
            return self.learning_rate * 0.5**phase
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
