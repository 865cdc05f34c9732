"""A job that is killed at random ends with the files of an undisturbed one.

Fewer times than `python -m benchmarks.interruptions` does by itself, and without a cluster.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_killed_three_times() -> None:
    """Pictures, and where PyAV is installed a clip of three segments."""
    sizes = {"pictures": 24, "height": 16, "width": 24, "frames": 250, "kills": 3, "workers": 0}
    sizes["clips"] = 1 if find_spec("av") else 0
    options = [f"--{name}={value}" for name, value in sizes.items()]
    command = [sys.executable, "-m", "benchmarks.interruptions", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kill ") == 3
    assert "every file is whole and the same" in done.stdout
