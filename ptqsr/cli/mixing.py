"""Bits chosen layer by layer, and plans in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from ptqsr.cli.crops import Crops
from ptqsr.cli.output import progress_bar
from ptqsr.config import EDGE_BITS, Config, check_bits
from ptqsr.errors import PtqsrError, one_line
from ptqsr.models import SRNetwork, digest_of
from ptqsr.plan import PlannedLayer, rules
from ptqsr.sensitivity import CANDIDATES, Choice, Sensitivity, choose, sensitivity


@dataclass(frozen=True)
class Limit:
    """What bits are chosen under, as options say it: a mean of so many, or so much PSNR."""

    target_bits: float | None
    max_drop: str | None

    def __post_init__(self) -> None:
        if self.target_bits is not None and self.max_drop is not None:
            raise PtqsrError("--target-bits and --max-drop: give one of them")
        _decibels(self.max_drop)

    @property
    def option(self) -> str | None:
        """The one that was given; None: bits are not to be chosen."""
        if self.max_drop is not None:
            return "--max-drop"
        return None if self.target_bits is None else "--target-bits"

    def choose(
        self, network: SRNetwork, config: Config, measured: Sensitivity
    ) -> tuple[Config, Choice]:
        """Return the configuration with the best bits, and what they are to cost."""
        choice = choose(measured, target_bits=self.target_bits, max_drop=_decibels(self.max_drop))
        layers = tuple(
            (name, bits := choice.bits.get(name, EDGE_BITS), bits)
            for name in rules(network, config)
        )
        return replace(config, layers=layers, include=(), exclude=(), edges=None), choice


def candidates_of(text: str | None) -> tuple[int, ...]:
    """Return the bit-widths of --candidates."""
    if text is None:
        return CANDIDATES
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise PtqsrError(f"--candidates {text}: give bit-widths with commas, as 3,4,6,8") from None
    for bits in found:
        check_bits(f"--candidates {text}: a bit-width", bits)
    return tuple(found)


def _decibels(text: str | None) -> float | None:
    """Return the number of --max-drop, as 0.1dB or 0.1."""
    if text is None:
        return None
    try:
        drop = float(text.strip().lower().removesuffix("db"))
    except ValueError:
        drop = -1.0
    if not 0 <= drop < float("inf"):
        raise PtqsrError(f"--max-drop {text}: give a number of dB, as 0.1dB")
    return drop


def read_sensitivity(path: Path, network: SRNetwork, config: Config) -> Sensitivity:
    """Return what was measured of this network; raises PtqsrError, which names file and layer."""
    measured, wanted = Sensitivity.read(path), rules(network, config)
    title = f"{network.title} x{network.scale}"
    if (measured.network, measured.method) != (title, config.method):
        raise PtqsrError(
            f"{path}: is of {one_line(measured.network)} by {one_line(measured.method)}, not of "
            f"{title} by {config.method}; measure again"
        )
    if measured.weights != digest_of(network.state_dict()):
        raise PtqsrError(f"{path}: is of other weights of {title}; measure again with these")
    theirs = {row.name: row.body for row in measured.layers}
    ours = {name: not rule.whole_range for name, rule in wanted.items()}
    for name in {**ours, **theirs}:
        if name not in ours:
            what = "was measured, but is not quantized"
        elif name not in theirs:
            what = "was not measured"
        elif theirs[name] != ours[name]:
            what = f"was measured as {'one of the body' if theirs[name] else 'an edge'}"
        else:
            continue
        raise PtqsrError(
            f"{path}: layer {one_line(name)} {what}; measure again with the same options"
        )
    return measured


def measure_sensitivity(
    network: SRNetwork, config: Config, crops: Crops, candidates: tuple[int, ...]
) -> Sensitivity:
    """Return what layers lose, by exact points: k-means takes minutes at 6 bits."""
    exact = replace(config, selector="optimal")
    with progress_bar() as show:
        return sensitivity(
            network, crops.inputs, crops.some_pairs(), exact, candidates, progress=show
        )


def plan_table(rows: Sequence[PlannedLayer], title: str, choice: Choice | None = None) -> Table:
    """Return the layers with their bits; `choice`: what was chosen, and what that is to cost."""
    quantized = sum(row.quantized for row in rows)
    table = Table(title=f"{title}: {quantized} of {len(rows)} layers quantized")
    if choice is not None:
        unit = "dB of PSNR" if choice.in_db else "squared grey levels"
        table.caption = (
            f"mean bits, weighted by MACs: {choice.mean_bits:.3f}; predicted loss: "
            f"{choice.loss:.3g} {unit}"
        )
    for name in ("layer", "kind", "weights", "activations", "why"):
        table.add_column(name, overflow="fold")
    for row in rows:
        bits = (str(row.weight_bits), str(row.act_bits)) if row.quantized else ("float", "float")
        table.add_row(row.name, row.kind, *bits, row.reason)
    return table
