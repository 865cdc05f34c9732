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
        """Which code runs operations."""
        if not self.native:
            return "PyTorch reference, since there is no native code"
        gpu = "kernels for " + ", ".join(f"sm_{a}" for a in self.cuda_built_for)
        on_gpu = gpu if self.cuda_built_for else "PyTorch reference: built without CUDA"
        return f"native on the CPU ({self.cpu_instruction_set_used}); on GPUs {on_gpu}"

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
        gpus=tuple(cuda["devices"]) if cuda else (),
    )


def _version(number: int) -> str | None:
    """Return 13.0 for CUDA's 13000, None for 0."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else None
