"""Outputs that are either whole or not there, and records that say which command wrote them."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ptqsr.errors import PtqsrError, one_line


def check_writable(path: str | Path) -> None:
    """Raise PtqsrError where `replacing` would: say before the work that its result has no place.

    Creates nothing.
    """
    path = Path(path)
    if path.is_dir():
        raise PtqsrError(f"{path}: is a folder; name a file")
    if path.exists() and not path.is_file():
        # Renaming a file to /dev/null or /dev/stdout would take the device away from everybody.
        raise PtqsrError(f"{path}: is no regular file; name one")
    if not path.parent.is_dir():
        raise PtqsrError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PtqsrError(f"{path}: cannot be written (no permission in {path.parent})")


def check_folder(path: str | Path) -> None:
    """Raise PtqsrError where a folder cannot be made, or nothing can be written in it.

    Creates nothing.
    """
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise PtqsrError(f"{path}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PtqsrError(f"{path}: cannot be written (no permission in {place})")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` if the body succeeds.

    Whatever stops the body, an interruption too, leaves the old file as it was and no other.
    A link stays, and its target is replaced. Raises PtqsrError where the file cannot be written.
    """
    path = Path(path)
    check_writable(path)
    target = Path(os.path.realpath(path))
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary = Path(name)
        os.close(handle)
        yield temporary
        # mkstemp keeps other users out, and so do writers that put a file of their own in place.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except OSError as error:
        raise PtqsrError(f"{path}: cannot be written ({error.strerror or error})") from None
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise PtqsrError(f"{path}: cannot be written ({error})") from None
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                temporary.unlink()


def read_record(path: str | Path, command: str, version: int) -> dict[str, Any]:
    """Return the JSON object that a command wrote, which its "format" names, unchecked beyond it.

    Raises PtqsrError that names the file for all else, for another version too.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PtqsrError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise PtqsrError(f"{path}: is no JSON; make it with `{command}`") from None
    if not isinstance(record, dict) or record.get("format") != command:
        raise PtqsrError(f"{path}: is not of `{command}`; make it with that")
    if record.get("version") != version:
        theirs = one_line(record.get("version"))
        raise PtqsrError(
            f"{path}: version {theirs}; this is {version}: make it again with `{command}`"
        )
    return record


def remove_leftovers(paths: Iterable[str | Path]) -> None:
    """Remove what `replacing` left beside these where its process was killed.

    Nothing else may be writing them.
    """
    names: dict[Path, set[str]] = {}
    for path in paths:
        target = Path(os.path.realpath(path))
        names.setdefault(target.parent, set()).add(target.name)
    for folder, wanted in names.items():
        for entry in folder.iterdir() if folder.is_dir() else ():
            found = re.fullmatch(r"\.(.+)\.[a-z0-9_]{8}", entry.name, re.DOTALL)  # mkstemp's
            if found and found[1] in wanted:
                entry.unlink(missing_ok=True)
