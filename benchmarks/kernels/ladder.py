"""What the ladders of convolutions share: older versions compiled, and their table.

A version exports `conv`, whose arguments are one structure. It is timed by processor time, since
one thread's holds still where others use the machine, beside `peak`: as many products as the
convolution has, from registers to registers.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timer import Timing
from ptqsr.errors import PtqsrError

FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC", "-w")
GOP = 2 * 9 * 64 * 64 * 180 * 320 / 1e9
PEAK = "vpdpbusd alone"


def compiled(source: Path, folder: Path, defines: Sequence[str] = ()) -> ctypes.CDLL:
    """Compile one version, with $CXX or c++, for this machine."""
    library = folder / "_".join([source.stem, *defines, "version.so"])
    compiler = os.environ.get("CXX", "c++")
    switches = [f"-D{define}" for define in defines]
    subprocess.run([compiler, *FLAGS, *switches, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def peak(folder: Path) -> Callable[[], object]:
    function = compiled(Path(__file__).parent / "peak.cpp", folder).peak
    count = ctypes.c_int64(round(GOP * 1e9) // (24 * 128))
    return lambda: function(count)


def pointer(tensor: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def require_vnni(isa: str) -> None:
    if isa != "avx512_vnni":
        raise PtqsrError(f"the versions are written for AVX-512 VNNI; this machine has {isa}")


def show(title: str, timings: list[Timing], fastest_ms: float, previous: Timing | None) -> None:
    """Print CPU time, speed, share of the peak and gain over the row before, or over `previous`."""
    print(f"{title:<40} {'CPU ms':>10} {'GOP/s':>8} {'% of peak':>10} {'gain':>8}")
    before = previous
    for timing in timings:
        gain = "" if before is None else f"{before.cpu_ms / timing.cpu_ms:7.3f}x"
        print(
            f"{timing.name:<40} {timing.cpu_ms:>10.3f} {GOP / timing.cpu_ms * 1e3:>8.1f} "
            f"{100 * fastest_ms / timing.cpu_ms:>10.1f} {gain:>8}"
        )
        before = timing if previous is None else previous
