"""What the operations should reach on a GPU, and whether they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.gpu.table import HEADING, Row, line

ELEMENTWISE = (
    "channel_stats",
    "subset_encode",
    "subset_fake_quant",
    "uniform_encode",
    "uniform_fake_quant",
)


BODY = "body "  # how shapes of a body begin


@dataclass(frozen=True)
class Goal:
    """At least `least` of the ceiling, or times as fast as `peer`.

    Of shapes that begin with `shape`, on compute capabilities (as 75) from `since`, below `before`.
    """

    name: str
    least: float
    peer: str | None = None
    shape: str = ""
    since: int = 75
    before: int = 1000

    def found(self, row: Row) -> float | None:
        """Return what a row has of what is asked for; None where that was not measured."""
        return row.of_ceiling if self.peer is None else row.times_as_fast.get(self.peer)

    def __str__(self) -> str:
        if self.peer is None:
            return f">= {100 * self.least:.0f} % of the ceiling"
        return f">= {self.least:.2f} x {self.peer}"


# Those of the issue that asked for these kernels. int4 "within 5 % of int8" is 0.95 x as fast.
GOALS = (
    *(Goal(name, 0.85) for name in ELEMENTWISE),
    Goal("gemm_s8", 0.75, shape="4096 x 4096 x 4096"),
    Goal("uniform_conv2d W8A8", 0.60, shape="3x3 64->64 "),
    Goal("uniform_conv2d W8A8", 1.3, "CUTLASS int8", shape="3x3 64->64 "),
    Goal("uniform_conv2d W8A8", 1.6, "cuDNN float16", shape="3x3 64->64 "),
    Goal("uniform_conv2d W4A4", 1.5, "uniform_conv2d W8A8", before=90),
    Goal("uniform_conv2d W4A4", 2.0, "CUTLASS int4", before=90),
    Goal("uniform_conv2d W4A4", 0.95, "uniform_conv2d W8A8", since=90),
    *(Goal("body W8A8", 1.6, peer, shape=BODY) for peer in ("torch float16", "torch TF32")),
    *(Goal("body DFSQ W4A4", 1.3, peer, shape=BODY) for peer in ("torch float16", "torch TF32")),
    Goal("body DFSQ W4A4", 4.0, "torch float32", shape=BODY),
    # At most 25 % more time.
    Goal("body DFSQ W4A4", 0.8, "body W8A8", shape=BODY),
)


@dataclass(frozen=True)
class Verdict:
    """One goal on one shape; `found` and `reached` are None where it was not measured."""

    name: str
    shape: str
    goal: str
    found: float | None
    reached: bool | None

    @property
    def text(self) -> str:
        if self.found is None:
            return f"not measured: {self.goal}"
        figure = f"{100 * self.found:.1f} %" if "%" in self.goal else f"{self.found:.2f} x"
        return f"{'reached' if self.reached else 'MISSED'}: {figure}, {self.goal}"


def verdicts(rows: Sequence[Row], architecture: int) -> list[Verdict]:
    """Return every goal for every row that it speaks of; a goal without a row is not measured."""
    found = []
    for goal in GOALS:
        if not goal.since <= architecture < goal.before:
            continue
        spoken_of = [r for r in rows if r.name == goal.name and r.shape.startswith(goal.shape)]
        if not spoken_of:
            found.append(Verdict(goal.name, goal.shape or "any", str(goal), None, None))
        for row in spoken_of:
            value = goal.found(row)
            reached = None if value is None else value >= goal.least
            found.append(Verdict(row.name, row.shape, str(goal), value, reached))
    return found


def report(rows: Sequence[Row], found: Sequence[Verdict]) -> list[str]:
    """Return the table: rows with their verdicts, then the goals that no row is there for."""
    lines = [HEADING]
    for row in rows:
        of = [v.text for v in found if (v.name, v.shape) == (row.name, row.shape)]
        lines += [line(row), *(f"    {text}" for text in of)]
    known = {(row.name, row.shape) for row in rows}
    lines += [f"{v.name}, {v.shape}: {v.text}" for v in found if (v.name, v.shape) not in known]
    return [*lines, summary(found)]


def summary(found: Sequence[Verdict]) -> str:
    """Return one line: how many goals are reached, missed and not measured."""
    count = {state: sum(v.reached is state for v in found) for state in (True, False, None)}
    return f"goals: {count[True]} reached, {count[False]} missed, {count[None]} not measured"
