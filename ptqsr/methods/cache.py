"""Tensors kept in main memory up to a limit, beyond it in a temporary file."""

from __future__ import annotations

import math
import tempfile
from types import TracebackType
from typing import IO

import numpy as np
import torch

from ptqsr.errors import PtqsrError

LIMIT = 2 << 30  # bytes


class Cache:
    """A list of float32 tensors, on the CPU, of which at most `limit` bytes are in main memory.

    The file has no name: it is gone with the process, however that ends.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.left = limit
        self._file: IO[bytes] | None = None
        self._kept: list[torch.Tensor | tuple[int, tuple[int, ...]]] = []

    def append(self, x: torch.Tensor) -> int:
        """Keep a copy; return its number."""
        x = x.detach().to("cpu", torch.float32, copy=True).contiguous()
        if x.nbytes <= self.left:
            self.left -= x.nbytes
            self._kept.append(x)
            return len(self._kept) - 1
        try:
            if self._file is None:
                # Nothing is buffered: after an error there is nothing that closing would write.
                self._file = tempfile.TemporaryFile(buffering=0, prefix="ptqsr")  # noqa: SIM115
            start = self._file.seek(0, 2)
            left = x.numpy().data.cast("B")
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise PtqsrError(
                f"{tempfile.gettempdir()}: no room for the blocks' inputs and outputs "
                f"({error.strerror}); set TMPDIR, or give fewer or smaller pictures"
            ) from None
        self._kept.append((start, tuple(x.shape)))
        return len(self._kept) - 1

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, number: int) -> torch.Tensor:
        found = self._kept[number]
        if isinstance(found, torch.Tensor):
            return found
        start, shape = found
        assert self._file is not None
        values = np.memmap(self._file, np.float32, "r", start, math.prod(shape))
        return torch.from_numpy(values.copy()).view(shape)

    @property
    def on_disk(self) -> int:
        """How many of the tensors are in the file."""
        return sum(not isinstance(kept, torch.Tensor) for kept in self._kept)

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kept.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
