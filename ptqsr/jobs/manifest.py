"""What a job over many files has finished, in a file beside them, so that it can go on."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ptqsr.errors import PtqsrError
from ptqsr.files import remove_leftovers

NAME = "ptqsr-job.jsonl"
FORMAT, VERSION = "ptqsr job", 1


class Manifest:
    """A folder's job: lines of JSON, the first of which says what the job is.

    Before any work the job claims the places of its outputs, which were free then or may be
    overwritten. An output is finished once it has its place and a line after that says so; one that
    has its place and no line was made by a process that was killed in between, and is made again.
    Whoever holds a manifest holds its lock, until `close` or the end of the process.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], *, anew: bool = False) -> None:
        """Open the folder's manifest, or begin one; `anew` forgets what an old one says.

        Raises PtqsrError where the manifest is of another job (another `job`, which is JSON), held
        by another process, damaged, or cannot be written.
        """
        self.path = folder / NAME
        self.claims: set[str] = set()
        self.done: dict[str, dict[str, Any]] = {}
        self.start: dict[str, Any] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a+b")
        except OSError as error:
            raise PtqsrError(f"{self.path}: cannot be written ({error.strerror})") from None
        try:
            self._lock()
            if anew:
                self.file.truncate(0)
            self._read(dict(job))
        except BaseException:
            self.file.close()
            raise

    def remember(self, **start: Any) -> dict[str, Any]:
        """Return these figures, which a job goes on with, as they were when it began.

        As the memory in use: from it and a limit the tiles follow.
        """
        if not self.start:
            self._append({"start": start})
            self.start = start
        return self.start

    def claim(self, targets: Iterable[Path]) -> None:
        """Claim places that are not claimed yet, and clear them of unfinished files."""
        names = {self._name(target): target for target in targets}
        new = sorted(names.keys() - self.claims)
        if new:
            self._append({"claims": new})
            self.claims.update(new)
        remove_leftovers(target for name, target in names.items() if name not in self.done)

    def claimed(self, target: Path) -> bool:
        """Return whether what is there, if anything, is this job's."""
        return self._name(target) in self.claims

    def finished(self, source: Path, target: Path) -> bool:
        """Return whether an output is there, whole, and made of the source as it is now."""
        record = self.done.get(self._name(target))
        return (
            record is not None
            and target.is_file()
            and record["bytes"] == target.stat().st_size
            and record["source"] == stamp(source)
        )

    def finish(self, source: Path, target: Path) -> None:
        """Note that an output is in its place."""
        name = self._name(target)
        record = {"bytes": target.stat().st_size, "source": stamp(source)}
        self._append({"done": name, **record})
        self.done[name] = record

    def close(self) -> None:
        """Let go of it; of a job that was not begun nothing stays."""
        if not (self.claims or self.start):
            self.path.unlink(missing_ok=True)
        self.file.close()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.close()

    def _name(self, target: Path) -> str:
        return target.relative_to(self.path.parent).as_posix()

    def _lock(self) -> None:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PtqsrError(f"{self.path}: another ptqsr is at work on this job") from None

    def _append(self, line: Mapping[str, Any]) -> None:
        self.file.write(json.dumps(line).encode() + b"\n")
        self.file.flush()

    def _read(self, job: dict[str, Any]) -> None:
        self.file.seek(0)
        text = self.file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.file.truncate(len(whole))  # a process may be killed while it writes a line
        if not whole:
            self._append({"format": FORMAT, "version": VERSION, "job": job})
            return
        try:
            first, *others = map(json.loads, whole.splitlines())
            if (first["format"], first["version"]) != (FORMAT, VERSION):
                raise ValueError
            for line in others:
                self.claims.update(line.get("claims", ()))
                self.start = line.get("start", self.start)
                if "done" in line:
                    self.done[line["done"]] = {key: line[key] for key in ("bytes", "source")}
            old = dict(first["job"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise PtqsrError(
                f"{self.path}: is no manifest of this ptqsr, or damaged; remove it or name another "
                "folder"
            ) from None
        for key in {**old, **job}:
            if old.get(key) != job.get(key):
                raise PtqsrError(
                    f"{self.path}: is of a job with {key} {_short(old.get(key))}, not "
                    f"{_short(job.get(key))}; give what it was begun with, name another folder, or "
                    "--overwrite"
                )


def _short(value: Any) -> str:
    """Return a value for a message, of a digest its first digits."""
    text = str(value)
    return f"of digest {text[:12]}" if re.fullmatch("[0-9a-f]{64}", text) else text


def stamp(path: Path) -> dict[str, int]:
    """Return what changes when a file does: its size in bytes, and when it was written, in ns."""
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
