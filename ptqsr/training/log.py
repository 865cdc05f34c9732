"""The log of a run: a line of JSON for every record, with means over the steps since the last."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ptqsr.files import replacing
from ptqsr.training import processes


class Means:
    """Means of what steps report, added up where it was computed and fetched once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.names: list[str] = []
        self.total = torch.zeros(0)
        self.steps = 0

    def add(self, figures: Mapping[str, torch.Tensor | float]) -> None:
        """Take in the figures of a step, scalars of the same names at every step."""
        if not self.steps:
            self.names = list(figures)
            self.total = torch.zeros(len(figures), dtype=torch.float64, device=self.device)
        values = [torch.as_tensor(figures[n], device=self.device).detach() for n in self.names]
        self.total += torch.stack([value.double() for value in values])
        self.steps += 1

    def take(self) -> dict[str, float]:
        """Return the means over steps and processes, and begin anew."""
        means = processes.mean_over_processes(self.total / self.steps).tolist()
        self.steps = 0
        return dict(zip(self.names, means, strict=True))


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with "inf" and "nan" as strings, since JSON has no numbers for them."""

    def one(value: Any) -> Any:
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    return {name: one(value) for name, value in record.items()}


def line(record: Mapping[str, Any]) -> str:
    """Return a line of the log."""
    return json.dumps(plain(record)) + "\n"


def last_record(path: Path) -> dict[str, Any]:
    """Return the last record of a log that has any."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
    return record


def cut(path: Path, step: int) -> None:
    """Drop the lines of later steps, if there are any: they run again."""
    if not path.exists():
        return
    kept = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(text)["step"] > step:
                break
        except (ValueError, TypeError, KeyError):
            break  # half a line: the run was killed while it wrote
        kept.append(text + "\n")
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
