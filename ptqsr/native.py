"""The native module: loaded when first used, and described for `ptqsr info`."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, dataclass
from functools import cache
from types import ModuleType
from typing import Any

from ptqsr.errors import PtqsrError

ISA_VARIABLE = "PTQSR_CPU_ISA"


@cache
def load() -> ModuleType | None:
    """Return the native module; None, with one warning that says why, where there is none."""
    try:
        from ptqsr import _native
    except ImportError as error:
        warnings.warn(
            f"ptqsr has no native code here ({error}): every operation runs as its PyTorch "
            "reference, much slower. Build it: pip install . (needs a C++17 compiler)",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return _native


def cuda() -> ModuleType | None:
    """Return the native module's CUDA kernels; None where this build has none."""
    native = load()
    return None if native is None else getattr(native, "cuda", None)


# Compute capability, as 75, of the oldest GPUs that kernels are written for.
OLDEST_GPU = 75


def cuda_problem(capability: int) -> str | None:
    """Return why a GPU of a compute capability, as 75, runs none of this build's kernels.

    None where it does. Touches no GPU. The reason names the mend.
    """
    native = load()
    if native is None:
        return "there is no native code"
    if cuda() is None:
        return (
            "built without CUDA; install a wheel whose version has +cu, or where nvcc 12.0 or "
            "newer is found, CMAKE_ARGS=-DPTQSR_CUDA=ON pip install . builds with it"
        )
    if problem := native.cuda_problem():
        return str(problem)
    return _capability_problem(capability, native.cuda_architectures.split())


def new_stream() -> int:
    """Return the address of a new stream of the current GPU; 0 where there is none."""
    native = load()
    return 0 if native is None else int(native.new_stream())


def _capability_problem(capability: int, architectures: list[str]) -> str | None:
    """Return why code for some architectures (as CMake names them) does not run on a GPU."""
    text = f"the GPU has compute capability {_dotted(capability)}"
    if capability < OLDEST_GPU:
        return f"{text}, kernels need {_dotted(OLDEST_GPU)} or newer"
    # Code for an older processor is translated for newer ones, but not the other way round.
    numbers = [int(name) for name in architectures if name.isdigit()]
    if numbers and capability < min(numbers):
        return (
            f"{text}, this build is for {_dotted(min(numbers))} and newer; "
            f"CMAKE_ARGS=-DPTQSR_CUDA_ARCHITECTURES={capability} pip install . builds for it"
        )
    return None


def _dotted(capability: int) -> str:
    return f"{capability // 10}.{capability % 10}"


@cache
def cpu_isa() -> str:
    """Return the instruction set that the CPU kernels use: the best one, or PTQSR_CPU_ISA.

    Raises PtqsrError where that variable names one that this machine has not.
    """
    native = load()
    available = native.available_isas() if native is not None else []
    wanted = os.environ.get(ISA_VARIABLE)
    if wanted is None:
        return available[-1] if available else "none"
    if wanted not in available:
        raise PtqsrError(f"{ISA_VARIABLE}={wanted}: choose one of {', '.join(available)}")
    return wanted


@dataclass(frozen=True)
class Description:
    """What was built and what was found."""

    native: bool
    compiler: str | None
    cpu_instruction_sets: tuple[str, ...]
    cpu_instruction_set_used: str
    cuda_built_for: tuple[str, ...]
    cuda_runtime: str | None
    cuda_driver: str | None
    cuda_problem: str | None
    gpus: tuple[dict[str, Any], ...]

    @property
    def path(self) -> str:
        """Which code runs operations that have a kernel for both."""
        return self.path_with(self.gpu_path)

    def path_with(self, gpu: str) -> str:
        """Return the same with other words for GPUs."""
        if not self.native:
            return "PyTorch reference, since there is no native code"
        return f"native on the CPU ({self.cpu_instruction_set_used}); on GPUs {gpu}"

    @property
    def gpu_path(self) -> str:
        gpu = "kernels for " + ", ".join(f"sm_{a}" for a in self.cuda_built_for)
        if not self.cuda_built_for:
            return "PyTorch reference: built without CUDA"
        return f"{gpu}, which run nowhere here: {self.cuda_problem}" if self.cuda_problem else gpu

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def describe() -> Description:
    """Return what was built and found; never raises for a missing GPU or driver."""
    native = load()
    cuda = native.query_cuda() if native is not None else None
    return Description(
        native=native is not None,
        compiler=native.compiler if native is not None else None,
        cpu_instruction_sets=tuple(native.available_isas()) if native is not None else (),
        cpu_instruction_set_used=cpu_isa(),
        cuda_built_for=tuple(native.cuda_architectures.split()) if native is not None else (),
        cuda_runtime=_version(cuda["runtime"]) if cuda else None,
        cuda_driver=_version(cuda["driver"]) if cuda else None,
        cuda_problem=cuda["problem"] or None if cuda else "built without CUDA",
        gpus=tuple(_with_path(gpu) for gpu in cuda["devices"]) if cuda else (),
    )


def _with_path(gpu: dict[str, Any]) -> dict[str, Any]:
    """Return what was found of a GPU, and which code runs on it."""
    problem = cuda_problem(int(gpu["compute_capability"].replace(".", "")))
    path = f"PyTorch reference: {problem}" if problem else "kernels"
    if not problem and not gpu["compiled_for"]:
        path = "kernels do not start: CUDA fails on it, see nvidia-smi"
    return {**gpu, "path": path}


def _version(number: int) -> str | None:
    """Return 13.0 for CUDA's 13000, None for 0."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else None
