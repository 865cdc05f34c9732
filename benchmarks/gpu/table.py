"""From times to rows: speed, share of the ceiling, ratios to peers, and whether goals are reached.

Nothing here needs a GPU or PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

# What a figure counts, by the ceiling it is held against.
UNITS = {"copy": "GB/s", "s8": "TOP/s", "s4": "TOP/s", "float16": "TOP/s"}
PER_UNIT = {"GB/s": 1e9, "TOP/s": 1e12}


@dataclass(frozen=True)
class Measured:
    """Seconds of one run of a candidate, round by round, at least 2; rounds are interleaved.

    `work`: bytes or operations of a run; `limit`: which ceiling bounds it. `beside`: names of the
    peers that it is held against. A candidate that is itself a ceiling has `is_ceiling`. `note`:
    which of its forms was chosen.
    """

    name: str
    seconds: tuple[float, ...]
    work: float
    limit: str
    beside: tuple[str, ...] = ()
    is_ceiling: bool = False
    note: str = ""

    @property
    def unit(self) -> str:
        return UNITS[self.limit]

    @property
    def rates(self) -> list[float]:
        return [self.work / s / PER_UNIT[self.unit] for s in self.seconds]


@dataclass(frozen=True)
class Row:
    """One candidate on one shape. `low_us` and `high_us` are quartiles of the rounds.

    `of_ceiling`: its rate over that of its ceiling, `times_as_fast`: by peer, peer's time over its
    own; both medians of the rounds' ratios. None, or no entry, where there was nothing beside it.
    """

    name: str
    shape: str
    us: float
    low_us: float
    high_us: float
    rate: float
    unit: str
    limit: str
    of_ceiling: float | None
    times_as_fast: dict[str, float] = field(default_factory=dict)
    note: str = ""


def rows(shape: str, group: Sequence[Measured]) -> list[Row]:
    """Return a row for every candidate that was measured together, but for the ceilings."""
    ceilings = {m.limit: m.rates for m in group if m.is_ceiling}
    by_name = {m.name: m for m in group}
    made = []
    for m in group:
        if m.is_ceiling:
            continue
        low, middle, high = (1e6 * s for s in quantiles(m.seconds, n=4))
        ceiling = ceilings.get(m.limit)
        peers = [by_name[name] for name in m.beside if name in by_name]
        made.append(
            Row(
                m.name, shape, middle, low, high, median(m.rates), m.unit, m.limit,
                None if ceiling is None else _ratio(m.rates, ceiling),
                {peer.name: _ratio(peer.seconds, m.seconds) for peer in peers}, m.note,
            )
        )  # fmt: skip
    return made


def ceilings(groups: Iterable[Sequence[Measured]]) -> dict[str, dict[str, float | str]]:
    """Return the best median rate of every ceiling over all groups, and its spread over them."""
    found: dict[str, list[float]] = {}
    for group in groups:
        for m in group:
            if m.is_ceiling:
                found.setdefault(m.limit, []).append(median(m.rates))
    return {
        limit: {"best": max(rates), "lowest": min(rates), "unit": UNITS[limit]}
        for limit, rates in found.items()
    }


def _ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return median(x / y for x, y in zip(a, b, strict=True))


def line(row: Row) -> str:
    """Return a row as one line of the table."""
    share = "" if row.of_ceiling is None else f"{100 * row.of_ceiling:.1f} %"
    ratios = ", ".join(f"{ratio:.2f} x {peer}" for peer, ratio in row.times_as_fast.items())
    return (
        f"{row.name:<20} {row.shape:<32} {row.us:>9.1f} [{row.low_us:>8.1f}, {row.high_us:>8.1f}] "
        f"{row.rate:>8.1f} {row.unit:<5} {share:>8}  {ratios or row.note}"
    ).rstrip()


HEADING = (
    f"{'operation':<20} {'shape':<32} {'us':>9} [{'quartiles':>18}] "
    f"{'speed':>14} {'ceiling':>8}  times as fast as"
)
