"""Block reconstruction: what is asked for, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How blocks are reconstructed.

    `drop`: of the activations and of the blocks' inputs, how many are left as they are in floating
    point, drawn anew every iteration (QDrop). `learned_steps`: the layers whose activation's step
    is learned. `from_levels`: ours, where rounding is good already. Levels stay until
    gradients have moved them by half a step (NearestRounding in place of AdaRound), weight steps
    and biases are learned too, and of the start and the states seen every 50 iterations a block
    keeps the one that loses least on held-out pictures.
    """

    iterations: int = 1000
    seed: int = 0
    drop: float = 0.0
    learned_steps: Sequence[str] = ()
    from_levels: bool = False


@dataclass(frozen=True)
class Losses:
    """Mean squared errors of a block's output: of the pictures it learns from, of held-out ones."""

    training: float
    held_out: float


@dataclass(frozen=True)
class BlockRecord:
    """What became of a block; `nearest`: rounded to nearest, the ranges those of the start.

    `kept`: of which iteration the end is, 0 being the start, of `iterations` that were run.
    """

    block: str
    layers: tuple[str, ...]
    nearest: Losses
    start: Losses
    end: Losses
    kept: int
    iterations: int
