"""What is compiled when a benchmark runs: libraries of CUDA code, for the GPU at hand."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

KERNELS = Path(__file__).parents[1] / "kernels"
CSRC = Path(__file__).parents[2] / "csrc"
FLAGS = ("-std=c++17", "-O3", "--expt-relaxed-constexpr", "--shared", "-Xcompiler=-fPIC", "-w")


class BuildError(Exception):
    """nvcc is missing or refuses a source."""


def compiled(
    sources: Sequence[Path],
    library: Path,
    architecture: int,
    includes: Sequence[Path],
    defines: Sequence[str] = (),
) -> ctypes.CDLL:
    """Compile sources with nvcc (of $CUDA_HOME, or from PATH), and load them.

    They share the process's CUDA context with PyTorch, whose addresses and streams they take.
    Raises BuildError.
    """
    command = [
        nvcc(), *FLAGS, f"-arch=sm_{architecture}", *(f"-I{folder}" for folder in includes),
        *(f"-D{define}" for define in defines), *map(str, sources), "-o", str(library),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise BuildError(f"no nvcc to compile {sources[0].name} with: {error}") from None
    except subprocess.CalledProcessError as error:
        lines = [text for text in error.stderr.splitlines() if "error" in text] or ["no reason"]
        raise BuildError(f"nvcc refuses {sources[0].name}: {lines[0]}") from None
    return ctypes.CDLL(str(library))


def nvcc() -> str:
    home = os.environ.get("CUDA_HOME")
    return f"{home}/bin/nvcc" if home else shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
