"""What this GPU reaches at most, measured in the same rounds as what is held against it."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from benchmarks.gpu.build import CSRC, KERNELS, compiled
from benchmarks.gpu.graphs import Candidate, Run, fastest, seconds_of

KINDS = ("s8", "s4", "float16")  # in the order of ceiling.cu
COPIED = 256 << 20  # bytes: more than a cache holds
SECONDS = 5e-4  # of one run of products


def library(folder: Path, architecture: int) -> ctypes.CDLL:
    """Compile ceiling.cu; raises BuildError."""
    sources = [KERNELS / "ceiling.cu", CSRC / "cuda" / "simt_cuda.cu"]
    built = compiled(sources, folder / "ceiling.so", architecture, [CSRC, CSRC / "include"])
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    built.ceiling_products.argtypes = [ctypes.c_int, number, ctypes.c_int, pointer, pointer]
    built.ceiling_copy.argtypes = [pointer, pointer, number, pointer]
    built.ceiling_products.restype = built.ceiling_copy.restype = number
    built.ceiling_error.restype = ctypes.c_char_p
    return built


def kinds(architecture: int) -> tuple[str, ...]:
    """Return what tensor cores multiply: 4 bits only before 9.0."""
    return KINDS if architecture < 90 else ("s8", "float16")


def products(built: ctypes.CDLL, kind: str) -> Candidate:
    """Return products of a kind from registers to registers, long enough to fill the GPU."""
    processors = torch.cuda.get_device_properties().multi_processor_count
    out = torch.zeros(1, dtype=torch.int32, device="cuda")

    def run(rounds: int) -> float:
        stream = torch.cuda.current_stream().cuda_stream
        number = KINDS.index(kind)
        done = built.ceiling_products(number, rounds, processors, out.data_ptr(), stream)
        return _checked(built, done)

    few = 512
    rounds = max(few, round(few * SECONDS / seconds_of([lambda: run(few)])))
    return Candidate(f"ceiling {kind}", [lambda: run(rounds)], run(rounds), kind, is_ceiling=True)


def copy(built: ctypes.CDLL | None) -> Candidate:
    """Return the faster of PyTorch's copy and a plain kernel's, of what no cache holds."""
    source = torch.randint(0, 256, (COPIED,), dtype=torch.uint8, device="cuda")
    to = torch.empty_like(source)

    def by_kernel() -> None:
        assert built is not None
        stream = torch.cuda.current_stream().cuda_stream
        _checked(built, built.ceiling_copy(source.data_ptr(), to.data_ptr(), COPIED, stream))

    def candidate(run: Run) -> Candidate:
        return Candidate("ceiling copy", [run], 2 * COPIED, "copy", is_ceiling=True)

    ways = [candidate(lambda: to.copy_(source))]
    return fastest(ways if built is None else [*ways, candidate(by_kernel)])


def _checked(built: ctypes.CDLL, done: int) -> int:
    if done < 0:
        raise RuntimeError(f"ceiling.cu: {built.ceiling_error().decode()}")
    return done
