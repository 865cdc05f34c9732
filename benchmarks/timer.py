"""The package's timer for the scripts here, and their result files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ptqsr.benchmarking.timer import Timing, as_json, compare, machine
from ptqsr.files import replacing

__all__ = ["Timing", "as_json", "compare", "write"]


def write(path: str | None, figures: Any) -> None:
    """Write figures with their machine and commit as JSON, if a path is given."""
    if path is None:
        return
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    origin = {**machine(), "commit": commit, "command": " ".join(["python", *sys.argv])}
    with replacing(Path(path)) as temporary:
        text = json.dumps({"machine": origin, "figures": figures}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")
