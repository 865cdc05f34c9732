"""What a job notes of itself, and what is made of that when it goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ptqsr import PtqsrError
from ptqsr.jobs import Manifest
from ptqsr.jobs.manifest import NAME

JOB = {"checkpoint": "abc", "tile": None}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.png"
    path.write_bytes(b"picture")
    return path


def test_what_is_finished(tmp_path: Path, source: Path) -> None:
    """Whole and of the source as it is; else it is to be made again."""
    folder = tmp_path / "out"
    target, other = folder / "deep" / "a.png", folder / "b.png"
    with Manifest(folder, JOB) as manifest:
        assert not manifest.claimed(target)
        manifest.claim([target, other])
        target.parent.mkdir()
        target.write_bytes(b"large")
        assert manifest.claimed(target) and not manifest.finished(source, target)
        manifest.finish(source, target)
    with Manifest(folder, JOB) as manifest:
        assert manifest.finished(source, target) and not manifest.finished(source, other)
        assert manifest.claimed(other) and not manifest.claimed(folder / "c.png")
        target.write_bytes(b"cut")
        assert not manifest.finished(source, target)
        target.write_bytes(b"large")
        os.utime(source, ns=(1, 1))
        assert not manifest.finished(source, target)
    with Manifest(folder, JOB, anew=True) as manifest:
        assert not manifest.claimed(target)


def test_figures_of_the_beginning_stay(tmp_path: Path) -> None:
    with Manifest(tmp_path, JOB) as manifest:
        assert manifest.remember(in_use=5) == {"in_use": 5}
    with Manifest(tmp_path, JOB) as manifest:
        assert manifest.remember(in_use=6) == {"in_use": 5}


def test_nothing_stays_of_a_job_that_was_not_begun(tmp_path: Path) -> None:
    with Manifest(tmp_path, JOB):
        assert (tmp_path / NAME).exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_killed_while_a_line_is_written(tmp_path: Path, source: Path, cut: int) -> None:
    """The line does not count; the next one stands by itself."""
    target, other = tmp_path / "a.png", tmp_path / "b.png"
    for path in (target, other):
        path.write_bytes(b"large")
    with Manifest(tmp_path, JOB) as manifest:
        manifest.claim([target, other])
        manifest.finish(source, target)
        manifest.finish(source, other)
    text = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(text[:-cut])
    with Manifest(tmp_path, JOB) as manifest:
        assert manifest.finished(source, target) and not manifest.finished(source, other)
        manifest.finish(source, other)
    assert (tmp_path / NAME).read_bytes() == text


def test_killed_while_it_began(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'{"format": "ptq')
    with Manifest(tmp_path, JOB) as manifest:
        manifest.claim([tmp_path / "a.png"])
    assert [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()][1:] == [
        {"claims": ["a.png"]}
    ]


def test_leftovers_of_killed_writers_go(tmp_path: Path, source: Path) -> None:
    """Those of this job's places, and no other file."""
    target = tmp_path / "deep" / "a.png"
    target.parent.mkdir()
    mine = [".a.png", ".a.png.abc", ".b.png.abcd1234", "a.png.abcd1234", ".a.png.ABCD1234"]
    for name in (*mine, ".a.png.abcd12_4"):
        (target.parent / name).touch()
    with Manifest(tmp_path, JOB) as manifest:
        manifest.claim([target])
    assert sorted(path.name for path in target.parent.iterdir()) == sorted(mine)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"mine\n", "is no manifest of this ptqsr, or damaged"),
        (b"[]\n", "is no manifest"),
        (b"\xff\n", "is no manifest"),
        (b'{"format": "ptqsr job", "version": 99, "job": {}}\n', "is no manifest"),
        (b'{"format": "ptqsr job", "version": 1}\n', "is no manifest"),
        (b'{"format": "ptqsr job", "version": 1, "job": {}}\n{"claims": 3}\n', "is no manifest"),
        (b'{"format": "ptqsr job", "version": 1, "job": {}}\n{"done": "a"}\n', "is no manifest"),
        (
            b'{"format": "ptqsr job", "version": 1, "job": {"checkpoint": "abc", "tile": 64}}\n',
            "is of a job with tile 64, not None; give what it was begun with",
        ),
        (
            b'{"format": "ptqsr job", "version": 1, "job": {"checkpoint": "x", "tile": null}}\n',
            "is of a job with checkpoint x, not abc",
        ),
        (
            b'{"format": "ptqsr job", "version": 1, '
            b'"job": {"checkpoint": "abc", "tile": null, "more": 1}}\n',
            "is of a job with more 1, not None",
        ),
    ],
)
def test_manifests_that_are_refused(tmp_path: Path, text: bytes, named: str) -> None:
    (tmp_path / NAME).write_bytes(text)
    with pytest.raises(PtqsrError, match=NAME) as error:
        Manifest(tmp_path, JOB)
    assert named in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / NAME).read_bytes() == text
    with Manifest(tmp_path, JOB, anew=True) as manifest:
        manifest.claim([tmp_path / "a.png"])


def test_one_at_a_time(tmp_path: Path) -> None:
    """Also within a process: the lock is the open file's."""
    with Manifest(tmp_path, JOB) as manifest:
        manifest.claim([tmp_path / "a"])
        for anew in (False, True):
            with pytest.raises(PtqsrError, match="another ptqsr is at work on this job"):
                Manifest(tmp_path, JOB, anew=anew)
    with Manifest(tmp_path, JOB) as manifest:
        assert manifest.claimed(tmp_path / "a")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PtqsrError, match=r"file/.*: cannot be written \(File exists"):
        Manifest(tmp_path / "file", JOB)
    (tmp_path / NAME).mkdir()
    with pytest.raises(PtqsrError, match=r"cannot be written \(Is a directory"):
        Manifest(tmp_path, JOB)
