"""`ptqsr info`: what was built, and what was found."""

from __future__ import annotations

from typing import Any

import torch
from rich.table import Table

import ptqsr
from ptqsr import models, native
from ptqsr.cli.output import JsonFile, report


def info(json_file: JsonFile = None) -> None:
    """Say what was built, what was found on this machine, and which path each operation takes."""
    described = native.describe()
    figures: dict[str, Any] = {
        "ptqsr": ptqsr.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "bundled_weights": models.bundled(),
        **described.to_json(),
        "operations": {"subset_fake_quant": described.path},
    }
    table = Table(title="ptqsr", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), _text(value))
    report(table, figures, json_file)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(part) for part in value) or "none"
    return "none" if value is None else str(value)
