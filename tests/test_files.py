"""Outputs that are either whole or not there."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from unittest.mock import Mock

import pytest
from safetensors import SafetensorError

from ptqsr.errors import PtqsrError
from ptqsr.files import check_writable, replacing
from ptqsr.images import read_rgb


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("old", [None, "old"])
def test_success(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "out.bin"
    if old is not None:
        path.write_text(old)
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path and temporary != path
        temporary.write_text("new")
        assert (path.read_text() if path.exists() else None) == old
    assert path.read_text() == "new" and names(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (OSError(28, "No space left on device"), PtqsrError),
        (SafetensorError("I/O error: No space left on device"), PtqsrError),
        (ValueError("a bug"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (SystemExit(), SystemExit),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_failure_changes_nothing(
    tmp_path: Path, old: str | None, raised: BaseException, seen: type[BaseException]
) -> None:
    path = tmp_path / "out.bin"
    if old is not None:
        path.write_text(old)
    with pytest.raises(seen) as caught, replacing(path) as temporary:
        temporary.write_text("half")
        raise raised
    if seen is PtqsrError:
        assert str(path) in str(caught.value) and "No space left" in str(caught.value)
    assert names(tmp_path) == ([] if old is None else ["out.bin"])
    assert old is None or path.read_text() == old


def test_file_that_the_body_took_away(tmp_path: Path) -> None:
    with pytest.raises(PtqsrError, match="out"), replacing(tmp_path / "out") as temporary:
        temporary.unlink()
    assert names(tmp_path) == []


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with replacing(tmp_path / "out") as temporary:
            temporary.write_text("new")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    link.symlink_to(target)
    for text in ("one", "two"):
        with replacing(link) as temporary:
            temporary.write_text(text)
        assert link.is_symlink() and target.read_text() == text


def test_name_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with replacing("out") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["out"]


def test_places_that_take_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "gone" / "out", tmp_path / "pipe", Path(os.devnull)):
        for attempt in (check_writable, lambda path: replacing(path).__enter__()):
            with pytest.raises(PtqsrError, match=str(path)):
                attempt(path)
    assert names(tmp_path) == ["pipe"] and not Path(os.devnull).is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PtqsrError, match="permission"):
            check_writable(tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


def test_no_permission_whoever_runs_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says to other users than root, in both places where it can."""
    path = tmp_path / "out.txt"
    path.write_text("old")
    denied = PermissionError(errno.EACCES, "Permission denied")
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(PtqsrError, match=r"out\.txt: cannot be written \(no permission"):
            check_writable(path)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", Mock(side_effect=denied))
        with (
            pytest.raises(PtqsrError, match=r"out\.txt: cannot be written \(Permission denied"),
            replacing(path),
        ):
            pass
    assert path.read_text() == "old"


def test_unreadable_whoever_runs_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.touch()
    denied = PermissionError(errno.EACCES, "Permission denied", str(path))
    monkeypatch.setattr("PIL.Image.open", Mock(side_effect=denied))
    with pytest.raises(PtqsrError, match=r"a\.png: cannot be read \(Permission denied\)"):
        read_rgb(path)
