"""What a quantization-aware training is, besides the loop's options."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.quantizers import FEW_BITS
from ptqsr.training.methods.selection import Selection

PLACEMENTS = ("deployable", "paper")
SKT_FORMS = ("mean", "norm")


@dataclass(frozen=True)
class Options:
    """Frozen; raises PtqsrError for a value out of range.

    `quantization`: method, bits, and which convolutions. `placement`: "deployable", a quantizer in
    front of every convolution; "paper", PAMS' three in every residual block, which the shortcut
    goes through too. `skt`, `skt_weight`: the form and weight of the structured knowledge transfer.
    `range_factor`: of the learning rate, for ranges and offsets, which are learnt in units of where
    they start. `init_batches`: how many batches ranges begin with. Of ODM: `variance_weight`
    (lambda_V; None: `ODM.prepare` chooses it), `cooperative` (Eq. 5), `offset_ratio` of the layers
    that get a shift, and a gain. `selection`: of CADyQ, None for the others.
    """

    quantization: Config
    placement: str = "deployable"
    skt: str = "mean"
    skt_weight: float = 1000.0
    range_factor: float = 1.0
    init_batches: int = 100
    variance_weight: float | None = 0.01
    cooperative: bool = True
    offset_ratio: float = 0.3
    selection: Selection | None = None

    def __post_init__(self) -> None:
        for name, known in (("placement", PLACEMENTS), ("skt", SKT_FORMS)):
            if getattr(self, name) not in known:
                chosen = getattr(self, name)
                raise PtqsrError(f"{name} {chosen!r} is unknown; choose {' or '.join(known)}")
        if self.init_batches < 1:
            raise PtqsrError(f"init_batches is {self.init_batches}; it must be at least 1")
        for name in ("skt_weight", "range_factor", "variance_weight"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise PtqsrError(f"{name} is {value}; it must be a finite number, at least 0")
        if not 0 <= self.offset_ratio <= 1:
            raise PtqsrError(f"offset_ratio is {self.offset_ratio}; it must be from 0 to 1")
        follow = self.selection is not None and self.selection.weights_follow_bits
        if follow and self.quantization.weight_bits <= FEW_BITS:
            raise PtqsrError(
                f"weights_follow_bits: weights of {self.quantization.weight_bits} bits are as few "
                f"as they get for patches of {FEW_BITS} bits; leave it out, or give them more"
            )
        if self.quantization.edges is not None or self.quantization.layers:
            raise PtqsrError("edges, layers: training quantizes the body alone; leave them out")

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        del record["selection"]
        for name in ("layers", "universal_set"):  # nothing to training; RDN has layers of its own
            del record["quantization"][name]
        chosen = {} if self.selection is None else self.selection.to_json()
        return {**record.pop("quantization"), **record, **chosen}
