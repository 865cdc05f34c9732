"""What to quantize, and how: one frozen, JSON-serialisable record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

from ptqsr.errors import PtqsrError

VERSION = 1
MIN_BITS, MAX_BITS = 2, 8


@dataclass(frozen=True)
class Config:
    """A calibration's options; raises PtqsrError for a value out of range.

    A convolution is quantized if the network's own list names it and `exclude` does not, or if
    `include` does; both hold name patterns (fnmatch). `universal_set`, `selector` and `seed`
    concern DFSQ, `percentile` (of either tail, in per cent) the method of that name.

    >>> Config(bits=4, weight_bits=8).act_bits
    4
    >>> Config.from_json(Config(method="minmax").to_json()) == Config(method="minmax")
    True
    """

    method: str = "dfsq"
    bits: int = 4
    weight_bits: int = cast(int, None)  # not given: as `bits`
    act_bits: int = cast(int, None)
    universal_set: str = "dfsq-107"  # a preset's name or a JSON file of words
    selector: str = "kmeans"
    percentile: float = 1.0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("weight_bits", "act_bits"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.bits)
        for name in ("bits", "weight_bits", "act_bits"):
            value = getattr(self, name)
            if not isinstance(value, int) or not MIN_BITS <= value <= MAX_BITS:
                raise PtqsrError(
                    f"{name} is {value!r}; it must be a whole number from {MIN_BITS} to {MAX_BITS}"
                )
        if not isinstance(self.seed, int) or not 0 <= self.seed < 1 << 32:
            raise PtqsrError(f"seed is {self.seed}; it must be a whole number from 0 to 2^32 - 1")
        if not isinstance(self.percentile, (int, float)) or not 0 <= self.percentile < 50:
            raise PtqsrError(f"percentile is {self.percentile}; it must be from 0 to below 50")
        for name in ("include", "exclude"):
            patterns = getattr(self, name)
            patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
            object.__setattr__(self, name, patterns)
        for name in ("method", "universal_set", "selector"):
            if not isinstance(getattr(self, name), str):
                raise PtqsrError(f"{name} is {getattr(self, name)!r}; give its name")

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Return the configuration `to_json` wrote; an unknown version or field is refused."""
        try:
            record: dict[str, Any] = dict(json.loads(text))
        except (ValueError, TypeError):
            raise PtqsrError("configuration: is no JSON object") from None
        version = record.pop("version", None)
        if version != VERSION:
            raise PtqsrError(f"configuration: version {version} is unknown; this is {VERSION}")
        unknown = record.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise PtqsrError(f"configuration: unknown field {', '.join(sorted(unknown))}")
        return cls(**record)
