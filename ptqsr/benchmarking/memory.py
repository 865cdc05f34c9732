"""Peak memory of one inference, measured in a process that does nothing else."""

from __future__ import annotations

import ctypes
import gc
import json
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from ptqsr.benchmarking.task import Run, Task, Unavailable
from ptqsr.errors import one_line

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_of(run: Run) -> int:
    """Return by how many bytes this process grows at most while it runs something the first time.

    What was resident before, as libraries and weights, does not count; code and tables that the
    first inference makes or loads do. Linux only: raises Unavailable elsewhere.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc's: give freed memory back, to see it grow again
        ctypes.CDLL(None).malloc_trim(0)
    try:
        RESET.write_text("5")  # resets VmHWM, the largest resident size so far
        before = _resident("VmRSS")
    except OSError as error:
        raise Unavailable(f"memory needs Linux's {error.filename} ({error.strerror})") from None
    run()
    return max(_resident("VmHWM") - before, 0)


def peak_bytes(candidate: str, task: Task) -> int:
    """Return `peak_of` one inference of a candidate in a fresh child process.

    Raises Unavailable where the child does, or where it dies, as of too little memory.
    """
    done = subprocess.run(
        [sys.executable, "-m", "ptqsr.benchmarking"],
        input=json.dumps({"candidate": candidate, "task": task.to_json()}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode < 0:
        raise Unavailable(f"the process was killed by signal {-done.returncode}")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Unavailable(one_line(lines[-1]))
    answer = json.loads(done.stdout.splitlines()[-1])
    if "unavailable" in answer:
        raise Unavailable(answer["unavailable"])
    return int(answer["peak_bytes"])


def _resident(name: str) -> int:
    """Return VmRSS (now) or VmHWM (the most) in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
