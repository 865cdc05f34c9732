"""What is quantized, with how many bits, and why: a row for every layer, as a file too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ptqsr.config import EDGE_SET, Config, Rule, check_bits
from ptqsr.errors import PtqsrError, one_line
from ptqsr.files import read_record, replacing
from ptqsr.models import SRNetwork, matches
from ptqsr.modules import check_quantizable, in_body, quantizable

FORMAT, VERSION = "ptqsr plan", 1
FLOAT_BITS = 32
KEYS = {"kind", "quantized", "weight_bits", "act_bits", "reason"}


@dataclass(frozen=True)
class PlannedLayer:
    """A layer, or a module that computes as one. Its bits are 32 where it stays as it is."""

    name: str
    kind: str
    weight_bits: int
    act_bits: int
    reason: str

    @property
    def quantized(self) -> bool:
        return self.act_bits < FLOAT_BITS


def rules(network: SRNetwork, config: Config) -> dict[str, Rule]:
    """Return the layers to quantize and how, by name.

    Those that are not of the body, where `config.layers` names them, take the edges' universal set
    and the whole range, with the bits they are given. Raises PtqsrError as `quantizable` does.
    """
    if not config.layers:
        layers = quantizable(
            network, config.include, config.exclude, edges=config.edges is not None
        )
        return {
            name: config.body if in_body(network, name, config.include) else config.edge
            for name in layers
        }
    places, found = network.places(), {}
    for name, weight_bits, act_bits in config.layers:
        if name not in places:
            raise PtqsrError(f"layer {name}: is not in the network")
        check_quantizable(name, network.get_submodule(name), places[name])
        if places[name].part == "body":
            found[name] = config.rule(weight_bits, act_bits)
        else:
            found[name] = Rule(weight_bits, act_bits, EDGE_SET, whole_range=True)
    return found


def plan(network: SRNetwork, config: Config) -> tuple[PlannedLayer, ...]:
    """Return what `calibrate` would do with every layer; raises PtqsrError as that would."""
    quantized = rules(network, config)
    rows = []
    for name, place in network.places().items():
        kind = type(network.get_submodule(name)).__name__
        reason = place.why
        if name not in quantized:
            if place.part != "never" and matches(name, config.exclude):
                reason = "excluded"
            rows.append(PlannedLayer(name, kind, FLOAT_BITS, FLOAT_BITS, reason))
            continue
        rule = quantized[name]
        if place.part != "body":
            reason = f"{reason}; asked for"
        rows.append(PlannedLayer(name, kind, rule.weight_bits, rule.act_bits, reason))
    return tuple(rows)


def write(rows: Iterable[PlannedLayer], path: str | Path, network: SRNetwork) -> None:
    """Write a plan as JSON, which `read` takes, edited or not."""
    layers = {
        row.name: {
            "kind": row.kind,
            "quantized": row.quantized,
            "weight_bits": row.weight_bits,
            "act_bits": row.act_bits,
            "reason": row.reason,
        }
        for row in rows
    }
    title = f"{network.title} x{network.scale}"
    whole = {"format": FORMAT, "version": VERSION, "network": title, "layers": layers}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def is_plan(path: str | Path) -> bool:
    """Return whether a file is a plan, whole or not."""
    try:
        return FORMAT in Path(path).read_text(encoding="utf-8")[:200]
    except (OSError, ValueError):
        return False


def _wrong(row: object) -> str:
    """Return what is wrong with a layer's row that is none."""
    unknown = sorted(map(str, row.keys() - KEYS)) if isinstance(row, Mapping) else []
    if unknown:
        return f"{one_line(unknown[0])} is unknown; remove it, or mend its spelling"
    return "give quantized, weight_bits and act_bits"


def read(path: str | Path, network: SRNetwork) -> tuple[tuple[str, int, int], ...]:
    """Return a plan for this network, as `Config.layers` takes it.

    Raises PtqsrError, which names file and layer, for one that is not in the network, that is not
    in the plan, or that cannot be quantized as it says.
    """
    places = network.places()
    layers = read_record(path, FORMAT, VERSION).get("layers")
    if not isinstance(layers, dict):
        raise PtqsrError(f"{path}: has no layers; make a new plan with `ptqsr plan`")
    found = []
    for name, row in layers.items():
        if name not in places:
            raise PtqsrError(f"{path}: layer {one_line(name)} is not in the network; remove it")
        if not isinstance(row, Mapping) or not row.keys() <= KEYS or "quantized" not in row:
            raise PtqsrError(f"{path}: layer {name}: {_wrong(row)}")
        if row["quantized"] is False:
            continue
        try:
            if row["quantized"] is not True:
                raise PtqsrError(f"quantized is {row['quantized']!r}; it must be true or false")
            bits = [row.get("weight_bits"), row.get("act_bits")]
            for key, value in zip(("weight_bits", "act_bits"), bits, strict=True):
                check_bits(key, value)
            check_quantizable(name, network.get_submodule(name), places[name])
        except PtqsrError as error:
            text = one_line(str(error).removeprefix(f"layer {name}: "))
            raise PtqsrError(f"{path}: layer {name}: {text}") from None
        found.append((name, *bits))
    for name, place in places.items():
        if name not in layers and place.part != "never":
            raise PtqsrError(f"{path}: says nothing of layer {name}; add it, or make a new plan")
    if not found:
        raise PtqsrError(f"{path}: no layer is quantized")
    return tuple(found)  # type: ignore[arg-type]
