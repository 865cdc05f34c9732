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
    }
    table = Table(title="ptqsr", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in figures.items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        table.add_row(name.replace("_", " "), text or "none")
    report(table, figures, json_file)
