"""The rows behind the tables of PAMS, CADyQ and ODM, in the order in which they are needed.

Which row stands where in which paper's table is in trained_printed.csv, beside what is printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.tables import networks
from benchmarks.tables.networks import Network

EDSR = "EDSR x4 (bundled)"
# Of the papers, without weights so far: `ptqsr train` makes them.
MORE = (
    Network("SRResNet x4 (bundled)", "srresnet", 4),
    Network("CARN x4 (bundled)", "carn", 4),
    Network("EDSR x4 with batch normalisation", "edsr_batch_norm_x4.safetensors", 4),
)


@dataclass(frozen=True)
class Run:
    """`method`: of `ptqsr finetune`; or minmax, which is calibrated, or float.

    `options`: of training.methods.Options; `selection`: of CADyQ. `taught_by`: the run that is
    CADyQ's teacher. `weighted_as`: the run whose lambda_V is taken; without it ODM chooses its own.
    `random_start`: of PAMS' alpha. `part`: of the steps of all others, 1/part are run, by `rates`
    (of weights, of ranges) in the place of theirs.
    """

    method: str
    bits: int
    network: str = EDSR
    options: Mapping[str, Any] = field(default_factory=dict)
    selection: Mapping[str, Any] = field(default_factory=dict)
    taught_by: str = ""
    weighted_as: str = ""
    random_start: bool = False
    part: int = 1
    rates: tuple[float, float] | None = None

    @property
    def trained(self) -> bool:
        return self.method not in ("float", "minmax")

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.taught_by, self.weighted_as) if name)


def cadyq(**selection: Any) -> Run:
    return Run("cadyq", 8, selection=selection, taught_by="PAMS 8")


def odm_2(**options: Any) -> Run:
    """ODM's Table 5: with the lambda_V of the whole method."""
    return Run("odm", 2, options=options, weighted_as="ODM 2")


# What the methods are held to (goals.py).
GOALS = {
    "float": Run("float", 32),
    "PAMS 8": Run("pams", 8),
    "PAMS 4": Run("pams", 4),
    "MinMax 4": Run("minmax", 4),
    "ODM 4": Run("odm", 4),
    "ODM 3": Run("odm", 3),
    "ODM 2": Run("odm", 2),
    "PAMS 2": Run("pams", 2),
    "CADyQ": cadyq(),
}

ABLATIONS = {
    "PAMS 3": Run("pams", 3),
    **{
        f"{name} {bits}": Run(method, bits)
        for bits in (4, 8)
        for name, method in (("DoReFa", "dorefa"), ("TF-Lite", "tflite"), ("PACT", "pact"))
    },
    "ODM 2, variance everywhere": odm_2(cooperative=False, offset_ratio=0.0),
    "ODM 2, variance alone": odm_2(offset_ratio=0.0),
    "ODM 2, offsets alone": Run("odm", 2, options={"variance_weight": 0.0}),
    "ODM 2, ranges alone": Run("odm", 2, options={"variance_weight": 0.0, "offset_ratio": 0.0}),
    "PAMS 4, no SKT": Run("pams", 4, options={"skt_weight": 0.0}),
    "PAMS 8, no SKT": Run("pams", 8, options={"skt_weight": 0.0}),
    "PAMS 8, random start": Run("pams", 8, random_start=True),
    "CADyQ by patch": cadyq(choose_by="patch"),
    "CADyQ by layer": cadyq(choose_by="layer"),
    "CADyQ by range": cadyq(choose_by="range"),
    "CADyQ by std": cadyq(choose_by="std"),
    "CADyQ by layer's std": cadyq(choose_by="layer-std"),
    "CADyQ, no bit loss": cadyq(bit_weight=0.0),
    "CADyQ, plain bit loss": cadyq(bit_loss="plain"),
    "CADyQ, no KD of features": replace(cadyq(), options={"skt_weight": 0.0}),
    "CADyQ, no KD of layers": cadyq(feature_weight=0.0),
}


def on(
    network: str, pams: Sequence[int], odm: Sequence[int] = (), chooses: bool = False
) -> dict[str, Run]:
    """Return the rows of another network."""
    short = network.split(" (")[0]
    rows = {"float": Run("float", 32, network)}
    rows |= {f"PAMS {bits}": Run("pams", bits, network) for bits in pams}
    rows |= {f"ODM {bits}": Run("odm", bits, network) for bits in odm}
    if chooses:
        rows["CADyQ"] = replace(cadyq(), network=network, taught_by=f"PAMS 8, {short}")
    return {f"{name}, {short}": run for name, run in rows.items()}


NORMALISED = MORE[-1].name
OTHERS = {
    **on("EDSR x2 (bundled)", (8, 4)),
    **on("IDN x4 (authors', luma)", (8,), chooses=True),
    **on("CARN-M x4 (authors')", (8,), chooses=True),
    **on("RDN x4 (bundled)", (8, 4, 3, 2), (4, 3, 2)),
    **on("RDN x2 (bundled)", (8, 4)),
    **on("SRResNet x4 (bundled)", (8, 4, 3, 2), (4, 3, 2), chooses=True),
    **on("CARN x4 (bundled)", (8,), chooses=True),
    **on(NORMALISED, ()),
    f"PACT 8, {NORMALISED}": Run("pact", 8, NORMALISED),
}

# Which learning rates, and which w_reg of CADyQ: by the PSNR of held-out training pictures. ODM
# without its regularisation, whose weight would be chosen anew for each.
PROBED = {"PAMS 4": {}, "ODM 2": {"variance_weight": 0.0}}
PROBES = {
    **{
        f"probe, {name}, {rate:g} and {ranges:g}": replace(
            GOALS[name], options=options, part=10, rates=(rate, ranges)
        )
        for name, options in PROBED.items()
        for rate in (1e-4, 3e-4)
        for ranges in (1e-4, 1e-3, 1e-2)
    },
    **{
        f"probe, CADyQ, w_reg {weight:g}": replace(cadyq(bit_weight=weight), part=10)
        for weight in (2.5e-4, 1e-3, 4e-3)
    },
}

RUNS: dict[str, Run] = {**GOALS, **ABLATIONS, **OTHERS, **PROBES}


def with_needs(names: Sequence[str]) -> Iterator[str]:
    """Yield the names, each once, and before it the runs that it needs."""
    seen: set[str] = set()
    for name in names:
        for one in (*with_needs(RUNS[name].needs), name):
            if one not in seen:
                seen.add(one)
                yield one


def network_of(run: Run) -> Network:
    known = {network.name: network for network in (*networks.NETWORKS, *MORE)}
    return known[run.network]
