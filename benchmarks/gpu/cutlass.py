"""CUTLASS's convolution of integers, in several tiles: the fastest one is the peer.

Its headers come with `pip install --no-deps nvidia-cutlass`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.gpu.build import KERNELS, BuildError, compiled
from benchmarks.gpu.cases import conv_work
from benchmarks.gpu.graphs import Candidate, copies, fastest


@dataclass(frozen=True)
class Form:
    """A kernel: `tile` of a block (pixels, channels, codes along K), `warp` of that (first two)."""

    bits: int
    tile: tuple[int, int, int]
    warp: tuple[int, int]
    stages: int

    @property
    def title(self) -> str:
        return f"{'x'.join(map(str, self.tile))}, {self.stages} stages"

    def defines(self, architecture: int) -> list[str]:
        m, n, k = self.tile
        return [
            f"BITS={self.bits}", f"TILE_M={m}", f"TILE_N={n}", f"TILE_K={k}",
            f"WARP_M={self.warp[0]}", f"WARP_N={self.warp[1]}", f"STAGES={self.stages}",
            f"ARCHITECTURE={75 if architecture < 80 else 80}",
        ]  # fmt: skip


# Those of CUTLASS's own list for each processor that suit 64 and 256 channels.
TURING = (
    Form(8, (128, 64, 64), (64, 32), 2),
    Form(8, (128, 128, 64), (64, 64), 2),
    Form(8, (256, 64, 64), (64, 64), 2),
    Form(4, (128, 64, 128), (64, 32), 2),
    Form(4, (128, 128, 128), (64, 64), 2),
    Form(4, (256, 64, 128), (64, 64), 2),
)
AMPERE = (
    Form(8, (128, 64, 64), (64, 32), 4),
    Form(8, (128, 128, 64), (64, 64), 3),
    Form(8, (256, 64, 64), (64, 64), 4),
    Form(8, (256, 128, 64), (64, 64), 3),
    Form(4, (128, 64, 128), (64, 32), 4),
    Form(4, (128, 128, 128), (64, 64), 3),
    Form(4, (256, 64, 128), (64, 64), 4),
)


def forms(architecture: int) -> tuple[Form, ...]:
    """Return what is tried on a processor; 9.0 multiplies no 4 bits."""
    of = TURING if architecture < 80 else AMPERE
    return tuple(form for form in of if form.bits == 8 or architecture < 90)


def installed() -> str | None:
    """Return the version of nvidia-cutlass; None without it."""
    try:
        return version("nvidia-cutlass")
    except PackageNotFoundError:
        return None


def headers() -> Path | None:
    """Return the folder with CUTLASS's headers, of the package nvidia-cutlass; None without it."""
    spec = find_spec("cutlass_library")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "source/include/cutlass/cutlass.h").exists():
            return Path(place) / "source/include"
    return None


class Convolution:
    """One form, compiled."""

    def __init__(self, form: Form, library: ctypes.CDLL) -> None:
        self.form = form
        self._library = library
        pointer, number = ctypes.c_void_p, ctypes.c_int
        library.cutlass_conv.argtypes = [*[number] * 5, *[pointer] * 3, ctypes.c_float, pointer]
        library.cutlass_error.restype = ctypes.c_char_p

    def __call__(
        self, x: torch.Tensor, weight: torch.Tensor, factor: float, out: torch.Tensor
    ) -> None:
        """Write clamp(round(factor * sums)); all tensors are what `laid_out` returns."""
        n, h, w, stored = x.shape
        channels = stored * 8 // self.form.bits
        status = self._library.cutlass_conv(
            n, h, w, channels, len(weight), x.data_ptr(), weight.data_ptr(), out.data_ptr(),
            factor, torch.cuda.current_stream().cuda_stream,
        )  # fmt: skip
        if status:
            raise RuntimeError(f"CUTLASS: {self._library.cutlass_error(status).decode()}")

    def difference(self) -> str | None:
        """Return what is wrong with small convolutions, beside PyTorch's; None if nothing is."""
        try:
            return self._difference()
        except RuntimeError as error:  # asks for more than this processor has, say
            return str(error)

    def _difference(self) -> str | None:
        bits, half = self.form.bits, 1 << (self.form.bits - 1)
        for out in (64, 256):
            x = torch.randint(-half, half, (2, 64, 9, 21))
            # Two taps of a kernel or so: most sums are within the codes, some are clamped.
            weight = torch.randint(-1, 2, (out, 64, 3, 3)) * (torch.rand(out, 64, 3, 3) < 1 / 192)
            expected = F.conv2d(x.double(), weight.double(), padding=1).clamp(-half, half - 1)
            y = laid_out(torch.zeros(2, out, 9, 21, dtype=torch.int64), bits).cuda()
            self(laid_out(x, bits).cuda(), laid_out(weight, bits).cuda(), 1.0, y)
            wrong = int((y.cpu() != laid_out(expected.long(), bits)).sum())
            if wrong:
                return f"{wrong} of {y.numel()} bytes differ, 64->{out}"
        return None


def laid_out(t: torch.Tensor, bits: int) -> torch.Tensor:
    """Return int64 [N, C, H, W] as CUTLASS reads it: int8 [N, H, W, C], or two codes in a byte."""
    t = t.permute(0, 2, 3, 1).contiguous()
    if bits == 4:
        t = (t[..., ::2] & 15) | ((t[..., 1::2] & 15) << 4)
    return t.to(torch.uint8).view(torch.int8)


def build(folder: Path, include: Path | None, architecture: int) -> list[Convolution]:
    """Return the forms that compile and compute the right thing; say so of all others."""
    if include is None:
        print("no CUTLASS: pip install --no-deps nvidia-cutlass has its headers")
        return []

    def one(number: int, form: Form) -> Convolution | BuildError:
        try:
            library = compiled(
                [KERNELS / "cutlass_conv.cu"], folder / f"cutlass_{number}.so", architecture,
                [include], form.defines(architecture),
            )  # fmt: skip
        except BuildError as error:
            return error
        return Convolution(form, library)

    wanted = forms(architecture)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        built = list(pool.map(one, range(len(wanted)), wanted))
    sound = []
    for form, convolution in zip(wanted, built, strict=True):
        title = f"CUTLASS int{form.bits} {form.title}"
        if isinstance(convolution, BuildError):
            print(f"{title}: {convolution}")
        elif wrong := convolution.difference():
            print(f"{title} is left out: {wrong}")
        else:
            sound.append(convolution)
    return sound


def candidates(built: Sequence[Convolution], shape: tuple[int, ...], out: int) -> list[Candidate]:
    """Return the fastest form of 8 and of 4 bits for a 3x3 convolution of `shape`."""
    found = []
    for bits in sorted({c.form.bits for c in built}, reverse=True):
        same = [c for c in built if c.form.bits == bits]
        found.append(fastest([_candidate(c, shape, out) for c in same]))
    return found


def _candidate(convolution: Convolution, shape: tuple[int, ...], out: int) -> Candidate:
    n, channels, h, w = shape
    bits = convolution.form.bits

    def tensor(*sizes: int) -> torch.Tensor:
        sizes = (*sizes[:-1], sizes[-1] * bits // 8)
        return torch.randint(-128, 128, sizes, dtype=torch.int8, device="cuda")

    weight = tensor(out, 3, 3, channels)
    factor = 1 / (7 << bits)
    turns = copies(n * h * w * channels * bits // 8)
    runs = [
        partial(convolution, tensor(n, h, w, channels), weight, factor, tensor(n, h, w, out))
        for _ in range(turns)
    ]
    work = conv_work(shape, out)
    title = convolution.form.title
    return Candidate(f"CUTLASS int{bits}", runs, work, f"s{bits}", note=title)
