"""`ptqsr upscale` on folders and videos: going on, and where others do the work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import write_clip, write_photograph

import ptqsr.jobs.run
from ptqsr.images import read_rgb
from ptqsr.jobs import parts_of
from ptqsr.jobs.manifest import NAME
from ptqsr.upscaling import upscale_fitting

from .conftest import Run

pytestmark = pytest.mark.usefixtures("one_thread")

Refused = Callable[..., str]


@pytest.fixture
def folder(pictures: Path) -> Path:
    """Four pictures."""
    for number in (2, 3):
        write_photograph(pictures / "deep" / f"{number}.png", 12, 9, number)
    return pictures


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what goes through a network."""
    names: list[str] = []

    def noting(network: Any, picture: Any, planner: Any, name: str, show: Any) -> Any:
        names.append(Path(name).name)
        return upscale_fitting(network, picture, planner, name, show)

    monkeypatch.setattr(ptqsr.jobs.run, "upscale_fitting", noting)
    return names


def test_the_same_command_goes_on(
    run: Run, folder: Path, weights: Path, out: Path, made: list[str]
) -> None:
    """With what is missing, damaged, or was made of another picture; the rest is left alone."""
    job = ("upscale", folder, out / "large", "-c", weights)
    assert run(*job).exit_code == 0
    assert sorted(made) == ["0.png", "1.png", "2.png", "3.png"]
    before = {path: path.read_bytes() for path in (out / "large").rglob("*.png")}
    made.clear()
    result = run(*job, "--json", out / "figures.json")
    assert result.exit_code == 0 and made == []
    assert "already there: 4, to make: 0" in result.stderr
    assert json.loads((out / "figures.json").read_text()) == []
    (out / "large" / "0.png").unlink()
    (out / "large" / "1.png").write_bytes(b"cut")
    os.utime(folder / "deep" / "2.png", ns=(1, 1))
    result = run(*job)
    assert result.exit_code == 0 and sorted(made) == ["0.png", "1.png", "2.png"]
    assert "already there: 1, to make: 3" in result.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_killed_between_place_and_line(
    run: Run, folder: Path, weights: Path, out: Path, made: list[str]
) -> None:
    """The place was claimed: what is there is the job's own, and is made again."""
    job = ("upscale", folder, out / "large", "-c", weights)
    run(*job)
    manifest = out / "large" / NAME
    *lines, last = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines))
    (out / "large" / ".0.png.abcd1234").write_text("half")
    (out / "large" / "deep" / ".3.png.abcd1234").write_text("half")
    made.clear()
    assert run(*job).exit_code == 0
    assert made == [Path(json.loads(last)["done"]).name]
    left = sorted(path.name for path in (out / "large").rglob(".*"))
    # Only beside what is made again.
    assert left == ([".0.png.abcd1234"] if made == ["3.png"] else [".3.png.abcd1234"])


def test_other_options_and_networks_are_refused(
    run: Run, refused: Refused, folder: Path, weights: Path, out: Path
) -> None:
    job = ("upscale", folder, out / "large", "-c", weights)
    run(*job, "--tile", 16)
    line = refused(*job)
    assert f"{out / 'large' / NAME}: is of a job with tile 16, not None; give what it was" in line
    assert "statistics image, not tile" in refused(*job, "--tile", 16, "--stats", "tile")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    assert "is of a job with checkpoint" in refused(*job, "--tile", 16)
    assert run(*job, "--overwrite").exit_code == 0
    assert "with tile None, not 16" in refused(*job, "--tile", 16)


def test_another_folder_is_refused(
    refused: Refused, run: Run, folder: Path, weights: Path, out: Path, made: list[str]
) -> None:
    """Its pictures may have the same names; the same folder by another path goes on."""
    run("upscale", folder, out / "large", "-c", weights)
    other = write_photograph(folder.parent / "other" / "0.png", 9, 7).parent
    before = (out / "large" / "0.png").read_bytes()
    line = refused("upscale", other, out / "large", "-c", weights)
    assert f"is of a job with folder {folder}, not {other}; give what it was" in line
    assert (out / "large" / "0.png").read_bytes() == before
    (folder.parent / "link").symlink_to(folder)
    made.clear()
    assert run("upscale", folder.parent / "link", out / "large", "-c", weights).exit_code == 0
    assert made == []


def test_what_is_not_the_jobs_own(
    run: Run, refused: Refused, folder: Path, weights: Path, out: Path
) -> None:
    """A picture that came later, whose place is taken: it stays, unless it may be replaced."""
    job = ("upscale", folder, out, "-c", weights)
    run(*job)
    write_photograph(folder / "late.png", 9, 7)
    (out / "late.png").write_bytes(b"mine")
    assert f"{out / 'late.png'}: exists; name another place" in refused(*job)
    assert run(*job, "--skip-existing").exit_code == 0
    assert (out / "late.png").read_bytes() == b"mine"
    assert run(*job, "--overwrite").exit_code == 0
    assert read_rgb(out / "late.png").shape == (18, 14, 3)


def test_a_limit_leads_to_the_same_tiles(
    run: Run, folder: Path, weights: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though another process may begin with more memory in use."""
    job = ("upscale", folder, out / "large", "-c", weights, "--memory", "1GB")
    monkeypatch.setattr("ptqsr.upscaling.plan._in_use", lambda device: 10**8)
    assert run(*job).exit_code == 0
    (out / "large" / "0.png").unlink()
    monkeypatch.setattr("ptqsr.upscaling.plan._in_use", lambda device: 2 * 10**9)
    result = run(*job, "--json", out / "figures.json")
    assert result.exit_code == 0, result.stderr
    (record,) = json.loads((out / "figures.json").read_text())
    assert record["tile"] == 128


def test_memory_runs_out(
    run: Run, pictures: Path, weights: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and smaller tiles do it."""
    module = import_module("ptqsr.upscaling.run")
    whole = module.run

    def hungry(model: Any, image: Any, plan: Any, *rest: Any) -> Any:
        if plan.whole_features:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return whole(model, image, plan, *rest)

    source = write_photograph(pictures / "large.png", 300, 400)
    expected = run("upscale", source, out / "a.png", "-c", weights)
    monkeypatch.setattr(module, "run", hungry)
    result = run("upscale", source, out / "b.png", "-c", weights)
    assert expected.exit_code == result.exit_code == 0
    said = f"ptqsr: warning: {source}: out of memory by the body on the whole picture"
    assert said in result.stderr and "; once more by tiles of " in result.stderr
    apart = read_rgb(out / "a.png").astype(int) - read_rgb(out / "b.png")
    assert np.abs(apart).max() <= 1


# --- videos ---


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder with a clip of three frames, 18x26."""
    return write_clip(tmp_path / "clips" / "a.avi", "ffv1", 3, 18, 26)


def test_a_video(run: Run, refused: Refused, clip: Path, weights: Path, out: Path) -> None:
    job = ("upscale", clip, out / "b.mp4", "-c", weights)
    result = run(*job, "--json", "-")
    assert result.exit_code == 0 and list(out.iterdir()) == [out / "b.mp4"]
    assert f"{out / 'b.mp4'}: 3 frames, 26x18 to 52x36 in " in result.stderr
    (record,) = json.loads(result.stdout)
    assert (record["frames"], record["output"]) == (3, [52, 36])
    assert "b.mp4: exists" in refused(*job)
    assert run(*job, "--overwrite", "--codec", "libx265", "--codec-option", "crf=30").exit_code == 0
    wrong = ("upscale", clip, out / "c.avi", "-c", weights)
    assert "c.avi: videos are written as .mp4, .m4v, .mov, .mkv, .webm" in refused(*wrong)
    wrong = ("upscale", clip, out / "c.mkv", "-c", weights, "--codec-option", "crf")
    assert "--codec-option crf: give one as crf=18 or preset=slow" in refused(*wrong)
    wrong = ("upscale", clip, out / "c.mkv", "-c", weights, "--codec", "nothing")
    assert "--codec nothing: this PyAV has no such encoder" in refused(*wrong)


def test_a_folder_with_videos(
    run: Run, refused: Refused, clip: Path, weights: Path, out: Path, monkeypatch: Any
) -> None:
    """They come last, in a container that holds whatever theirs did."""
    write_photograph(clip.parent / "b.png", 9, 7)
    target = out / "large"
    job = ("upscale", clip.parent, target, "-c", weights)
    assert run(*job).exit_code == 0
    made = sorted(path.name for path in target.iterdir())
    assert made == ["a.mkv", "b.png", NAME]
    assert "already there: 2, to make: 0" in run(*job).stderr
    # Killed once the video had its place, and before its parts were gone.
    parts_of(target / "a.mkv").mkdir()
    manifest = (target / NAME).read_text().splitlines(keepends=True)
    (target / NAME).write_text("".join(line for line in manifest if '"done": "a.mkv"' not in line))
    whole = (target / "a.mkv").read_bytes()
    assert run(*job).exit_code == 0
    assert (target / "a.mkv").read_bytes() == whole and not parts_of(target / "a.mkv").exists()


def test_without_pyav(
    run: Run, refused: Refused, pictures: Path, weights: Path, out: Path, monkeypatch: Any
) -> None:
    """Videos alone are refused, those among pictures left out, both with the mend."""
    monkeypatch.setattr("ptqsr.jobs.formats.find_spec", lambda name: None)
    (pictures / "a.mp4").touch()
    mend = 'videos need PyAV: pip install "ptqsr[video]"'
    assert mend in refused("upscale", pictures / "a.mp4", out, "-c", weights)
    result = run("upscale", pictures, out, "-c", weights)
    assert f"ptqsr: warning: {pictures / 'a.mp4'}: left out, {mend}" in result.stderr
    assert result.exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", NAME]
    for number in range(2):
        (pictures / f"{number}.png").unlink()
    assert mend in refused("upscale", pictures, out / "other", "-c", weights)


# --- engines ---


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--engine", "spark"), "--engine spark: choose local or ray"),
        (("--workers", 2), "--workers 2: is for --engine ray"),
        (("--engine", "ray", "--device", "cuda:1"), "with --engine ray give cpu or cuda"),
        (("--engine", "ray", "--workers", 0), "--workers 0: give 1 or more"),
        (("--engine", "ray"), '--engine ray needs Ray: pip install "ptqsr[ray]"'),
    ],
    ids=str,
)
def test_engines_that_are_refused(
    refused: Refused,
    pictures: Path,
    weights: Path,
    job: list[object],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    named: str,
) -> None:
    """Without Ray, by every command that has the option; nothing is written."""
    monkeypatch.setattr("ptqsr.cluster.engine.find_spec", lambda name: None)
    assert named in refused("upscale", pictures, out, "-c", weights, *options)
    assert named in refused("evaluate", weights, "--data", pictures, *options)
    assert named in refused(*job, *options)
    assert not list(out.iterdir())


def test_a_bit_map_is_drawn_here(
    refused: Refused, weights: Path, pictures: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqsr.cluster.engine.Ray.__init__", lambda *_, **__: None)
    command = ("evaluate", weights, "--data", pictures, "--engine", "ray")
    line = refused(*command, "--bit-map", out / "bits.png")
    assert "--bit-map: is drawn in this process; leave out --engine ray" in line
