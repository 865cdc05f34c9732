"""What a training run has written down in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.tables.results import Row
from ptqsr.training.methods.odm import MISMATCH
from ptqsr.training.methods.variance import CHOICE


def steps_done(folder: Path) -> int:
    """Return how far the saved state of a run has come."""
    path = folder / "state.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


def tell(name: str, record: Row) -> None:
    figures = {"validation_psnr": "dB", "fqr": "bits", "conflict": "in conflict"}
    said = [f"{record[key]:.3f} {unit}" for key, unit in figures.items() if key in record]
    print(f"{name}: step {record['step']}, {', '.join(said)}, {record['seconds']} s", flush=True)


def read_run(folder: Path) -> Row:
    """Return the figures that a finished run has written down."""
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    last = log[-1]
    row: Row = {
        "seconds": last["seconds"],
        "seconds_per_step": round(last["seconds"] / last["step"], 3),
        "curve": _curve(log, "validation_psnr"),
    }
    if "fqr" in last:
        row["fqr curve"] = _curve(log, "fqr")
    if "conflict" in last:
        row["conflict"] = round(fmean(record["conflict"] for record in log), 4)
    if (folder / CHOICE).exists():
        row["variance_weight"] = variance_weight(folder)
    if (folder / MISMATCH).exists():
        layers = json.loads((folder / MISMATCH).read_text(encoding="utf-8"))
        row["mismatch"] = {
            f"{what} {when}": round(fmean(layer[when][what] for layer in layers), 4)
            for what in ("mean", "deviation")
            for when in ("before", "after")
        }
    return row


def variance_weight(folder: Path) -> float:
    """Return the lambda_V that an ODM run has chosen."""
    return json.loads((folder / CHOICE).read_text(encoding="utf-8"))["variance_weight"]


def _curve(log: list[Row], figure: str) -> dict[str, float]:
    """Return a figure by step, where the run was validated."""
    return {str(r["step"]): round(r[figure], 4) for r in log if "validation_psnr" in r}
