"""A job that is killed at random ends with the files of an undisturbed one."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_killed_ten_times() -> None:
    """Pictures, and where PyAV is installed a clip."""
    sizes = {"pictures": 60, "height": 16, "width": 24, "frames": 160, "segment": 4}
    sizes |= {"clips": 1, "pictures": 20} if find_spec("av") else {}
    options = [f"--{name}={value}" for name, value in sizes.items()]
    command = [sys.executable, "-m", "benchmarks.interruptions", "--kills=10", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kill ") == 10
    assert "every file is whole and that of the undisturbed run" in done.stdout
