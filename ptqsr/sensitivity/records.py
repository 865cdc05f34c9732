"""What layers lose at each bit-width, and what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ptqsr.config import check_bits
from ptqsr.errors import PtqsrError, one_line
from ptqsr.files import read_record

FORMAT, VERSION = "ptqsr sensitivity", 1
CANDIDATES = (3, 4, 6, 8)
MOST = 1e100  # that a loss may be: sums stay finite


@dataclass(frozen=True)
class Loss:
    """Of one layer quantized alone.

    `mse`: of the network's luma against that of the float network, in squared grey levels.
    `drop`: the PSNR that this costs in dB, to first order; None without true pictures.
    """

    mse: float
    drop: float | None


@dataclass(frozen=True)
class LayerSensitivity:
    """A layer, its multiply-accumulates for a picture, and its loss by bits.

    `body`: its bits are to be chosen; edges have 8.
    """

    name: str
    macs: int
    body: bool
    losses: Mapping[int, Loss]


@dataclass(frozen=True)
class Sensitivity:
    """Of a network by a method, layer by layer. `weights`: the network's `digest_of`."""

    network: str
    weights: str
    method: str
    layers: tuple[LayerSensitivity, ...]

    @property
    def in_db(self) -> bool:
        """Whether losses in dB are known."""
        return all(loss.drop is not None for row in self.layers for loss in row.losses.values())

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def read(cls, path: str | Path) -> Sensitivity:
        """Return what `to_json` gave; raises PtqsrError that names the file for all else."""
        record = read_record(path, FORMAT, VERSION)
        try:
            layers = tuple(map(_layer, record["layers"]))
            if len({row.name for row in layers}) < len(layers):
                raise PtqsrError("a layer stands there twice")
            network, weights, method = (str(record[n]) for n in ("network", "weights", "method"))
            return cls(network, weights, method, layers)
        except (AttributeError, KeyError, PtqsrError, TypeError, ValueError) as error:
            said = isinstance(error, PtqsrError)
            reason = one_line(error if said else f"{type(error).__name__}: {error}")
            raise PtqsrError(f"{path}: damaged or edited ({reason}); measure again") from None


def _layer(row: Mapping[str, Any]) -> LayerSensitivity:
    name, macs, body = row["name"], row["macs"], row["body"]
    if type(macs) is not int or not 0 < macs < 1 << 62 or type(body) is not bool:
        raise PtqsrError(f"layer {name}: macs are {macs!r}, body is {body!r}")
    losses = {}
    for bits, loss in row["losses"].items():
        check_bits(f"layer {name}: a bit-width", int(bits))
        drop = None if loss["drop"] is None else _number(name, loss["drop"])
        losses[int(bits)] = Loss(_number(name, loss["mse"]), drop)
    if not losses or (not body and len(losses) > 1):
        raise PtqsrError(f"layer {name}: has {len(losses)} losses")
    return LayerSensitivity(str(name), macs, body, losses)


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < MOST:
        raise PtqsrError(f"layer {name}: a loss is {value!r}")
    return float(value)


@dataclass(frozen=True)
class Choice:
    """Bits by layer; their mean over the body, weighted by MACs; the loss they are to have.

    `loss` adds up what every layer loses alone: in dB where `in_db`, else a mean squared error.
    """

    bits: Mapping[str, int]
    mean_bits: float
    loss: float
    in_db: bool
