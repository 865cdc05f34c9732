"""The one exception that users see, and what others say."""

from __future__ import annotations

from pathlib import Path


class PtqsrError(Exception):
    """A mistake in the input: one line that names the file, layer or option, and the mend.

    The command line prints it without a traceback and exits with code 2.
    """


def one_line(message: object, limit: int = 200) -> str:
    """Return what may hold a file's own words as one short line that a terminal can show."""
    first = (str(message).strip() or type(message).__name__).splitlines()[0]
    return "".join(c if c.isprintable() else "?" for c in first[:limit])


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is Python's or PyTorch's way to say so."""
    text = str(error)
    # Of PyTorch on GPUs, of its allocator on CPUs, and of the native code; not CUDA's "an illegal
    # memory access".
    said = any(words in text for words in ("out of memory", "allocate memory", "enough memory"))
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said)


def on_gpu(error: BaseException) -> bool:
    """Return whether it is a GPU's memory that an error is about."""
    return isinstance(error, RuntimeError) and "CUDA" in str(error)


def no_file(path: Path) -> PtqsrError:
    """Return the error for a path that is not a file."""
    what = "is a folder; name a file in it" if path.is_dir() else "no such file"
    return PtqsrError(f"{path}: {what}")


def no_folder(path: Path) -> PtqsrError:
    """Return the error for a path that is not a folder."""
    what = "is a file; name its folder" if path.exists() else "no such folder"
    return PtqsrError(f"{path}: {what}")
