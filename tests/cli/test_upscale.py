"""`ptqsr upscale`: pictures in, larger pictures out; and whatever may be wrong with either."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import photograph, tiny_edsr, write_photograph
from PIL import Image
from safetensors.torch import save_file

import ptqsr
from ptqsr import models
from ptqsr.config import Config
from ptqsr.images import read_picture, read_rgb
from ptqsr.jobs import list_jobs
from ptqsr.jobs.manifest import NAME
from ptqsr.upscaling import Planner, upscale

from .conftest import Run

pytestmark = pytest.mark.usefixtures("one_thread")

Refused = Callable[..., str]
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")


@pytest.fixture
def refused(refused: Refused, out: Path) -> Refused:
    """And nothing is left, or changed, where pictures are written."""

    def invoke(*arguments: object) -> str:
        before = sorted(out.rglob("*")), content(out)
        line = refused(*arguments)
        assert (sorted(out.rglob("*")), content(out)) == before
        return line

    return invoke


def content(folder: Path) -> dict[str, bytes | None]:
    """What is in a folder besides manifests: every file at any depth; and folders, as None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != NAME
    }


@pytest.fixture
def picture(pictures: Path) -> Path:
    """30x56 pixels."""
    return pictures / "0.png"


# --- what it does ---


def test_file_to_file(run: Run, picture: Path, weights: Path, out: Path) -> None:
    result = run("upscale", picture, out / "large.png", "-c", weights)
    assert result.exit_code == 0 and result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{out / 'large.png'}: 56x30 to 112x60 in ")
    assert "the rest in tiles of 128; about " in lines[0]
    assert list(content(out)) == ["large.png"]
    assert np.array_equal(read_rgb(out / "large.png"), upscale(tiny_edsr(), read_rgb(picture)))


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp", ".PNG"])
def test_formats(run: Run, picture: Path, weights: Path, out: Path, suffix: str) -> None:
    assert run("upscale", picture, out / f"a{suffix}", "-c", weights).exit_code == 0
    assert read_picture(out / f"a{suffix}").rgb.shape == (60, 112, 3)


def test_file_into_a_folder(run: Run, weights: Path, out: Path, tmp_path: Path) -> None:
    source = write_photograph(tmp_path / "a.b.jpg", 9, 7)
    assert run("upscale", source, out, "-c", weights).exit_code == 0
    assert list(content(out)) == ["a.b.png"]


def test_folder_to_folder(run: Run, pictures: Path, weights: Path, out: Path) -> None:
    write_photograph(pictures / "deep" / "er" / "2.jpg", 9, 7)
    (pictures / "notes.txt").write_text("no picture")
    target = out / "new"
    result = run("upscale", pictures, target, "-c", weights, "--json", out / "figures.json")
    assert result.exit_code == 0, result.output
    names = ["0.png", "1.png", "deep/er/2.png"]
    assert [name for name, data in content(target).items() if data is not None] == names
    assert len(result.stderr.splitlines()) == 3
    for name in names:
        assert f"{target / name}: " in result.stderr
    records = json.loads((out / "figures.json").read_text())
    assert [record["target"] for record in records] == [str(target / name) for name in names]
    assert records[2].pop("seconds") >= 0
    assert records[2] == {
        "source": str(pictures / "deep" / "er" / "2.jpg"),
        "target": str(target / "deep" / "er" / "2.png"),
        "input": [7, 9],
        "output": [14, 18],
        "tile": 128,
        "whole_features": True,
        "exact": True,
        "device": "cpu",
    }


def test_json_to_standard_output(run: Run, picture: Path, weights: Path, out: Path) -> None:
    result = run("upscale", picture, out, "-c", weights, "--tile", 16, "--json", "-")
    (record,) = json.loads(result.stdout)
    assert (record["tile"], record["whole_features"], record["exact"]) == (16, False, True)


def test_bundled_network_is_the_default(run: Run, out: Path, tmp_path: Path) -> None:
    source = write_photograph(tmp_path / "a.png", 9, 7)
    assert run("upscale", source, out).exit_code == 0
    expected = upscale(models.build("edsr", scale=4), read_rgb(source))
    assert np.array_equal(read_rgb(out / "a.png"), expected)


def test_names_with_brackets(run: Run, weights: Path, out: Path, tmp_path: Path) -> None:
    source = write_photograph(tmp_path / "a [b] :smile:.png", 9, 7)
    result = run("upscale", source, out, "-c", weights)
    assert f"{out / 'a [b] :smile:.png'}: 7x9 to 14x18" in result.stderr


def test_tiles_change_nothing(run: Run, picture: Path, weights: Path, out: Path) -> None:
    """Nor does a limit: but for rounding."""
    expected = upscale(tiny_edsr(), read_rgb(picture)).astype(int)
    for options in (("--tile", 8), ("--memory", "60 GiB"), ("--stats", "tile")):
        result = run("upscale", picture, out, "-c", weights, *options, "--overwrite")
        assert result.exit_code == 0 and "warning" not in result.stderr
        assert np.abs(read_rgb(out / "0.png") - expected).max() <= 1


def test_statistics_of_tiles(run: Run, picture: Path, checkpoint: Path, out: Path) -> None:
    """Of a network that DFSQ quantized: they change the picture, and that is said."""

    def make(*options: object) -> np.ndarray:
        result = run("upscale", picture, out / "a.png", "-c", checkpoint, "--overwrite", *options)
        assert result.exit_code == 0
        said = f"ptqsr: warning: {picture}: --stats tile changes the picture"
        assert (said in result.stderr) == ("tile" in options)
        return read_rgb(out / "a.png").astype(int)

    whole = make()
    assert np.array_equal(whole, upscale(ptqsr.load(checkpoint), read_rgb(picture)))
    assert np.abs(make("--tile", 16) - whole).max() <= 1
    assert 0 < np.abs(make("--tile", 16, "--stats", "tile") - whole).mean() < 8


@pytest.mark.parametrize("quantized", [False, True])
def test_network_on_luma(
    run: Run, refused: Refused, picture: Path, out: Path, tmp_path: Path, quantized: bool
) -> None:
    torch.manual_seed(0)
    network = models.build("idn", scale=2, weights=None, colours="y", width=16)
    path, scale = tmp_path / "y.safetensors", ("--scale", 2)
    if quantized:
        config = Config(method="minmax", bits=8)
        network, scale = ptqsr.calibrate(network, [photograph(24, 30)], config), ()
        ptqsr.save(network, path)
    else:
        save_file(network.state_dict(), path)
        assert "does not tell its scale" in refused("upscale", picture, out, "-c", path)
    assert run("upscale", picture, out, "-c", path, *scale).exit_code == 0
    assert np.array_equal(read_rgb(out / "0.png"), upscale(network, read_rgb(picture)))


# --- pictures of every kind ---


@pytest.mark.parametrize("size", [(1, 1), (2000, 3), (3, 2000), (10, 20000)], ids=str)
def test_odd_sizes(
    run: Run, weights: Path, out: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    source = write_photograph(tmp_path / "a.png", *size)
    assert run("upscale", source, out, "-c", weights).exit_code == 0
    expected = upscale(tiny_edsr(), read_rgb(source))
    assert expected.shape == (2 * size[0], 2 * size[1], 3)
    assert np.array_equal(read_rgb(out / "a.png"), expected)


def test_alpha_grey_and_profile_stay(run: Run, weights: Path, out: Path, tmp_path: Path) -> None:
    levels, profile = photograph(12, 17), bytes(16) + b"GRAY" + bytes(108)
    source = tmp_path / "a.png"
    Image.fromarray(levels[..., :2].copy(), "LA").save(source, icc_profile=profile)
    assert run("upscale", source, out, "-c", weights).exit_code == 0
    with Image.open(out / "a.png") as large:
        assert (large.mode, large.size) == ("LA", (34, 24))
        assert large.info["icc_profile"] == profile
        # Alpha is enlarged by itself.
        alpha = np.array(large.getchannel("A"))[::2, ::2].astype(int)
    assert np.abs(alpha - levels[..., 1]).mean() < 12


def test_cmyk(run: Run, weights: Path, out: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    Image.fromarray(photograph(12, 17)).convert("CMYK").save(source)
    result = run("upscale", source, out, "-c", weights)
    assert result.exit_code == 0
    assert f"ptqsr: warning: {source}: is CMYK; converted to RGB\n" in result.stderr
    assert read_picture(out / "a.png").rgb.shape == (24, 34, 3)


def test_animation(refused: Refused, weights: Path, out: Path, tmp_path: Path) -> None:
    frames = [Image.fromarray(photograph(12, 17, seed)) for seed in range(2)]
    source = tmp_path / "a.gif"
    frames[0].save(source, save_all=True, append_images=frames[1:])
    line = refused("upscale", source, out, "-c", weights)
    assert f"{source}: holds" in line and "animation" in line


def test_transparency_that_the_format_does_not_hold(
    refused: Refused, weights: Path, out: Path, tmp_path: Path
) -> None:
    source = tmp_path / "a.png"
    Image.fromarray(np.dstack([photograph(9, 7), photograph(9, 7)[..., 0]])).save(source)
    line = refused("upscale", source, out / "a.jpg", "-c", weights)
    assert f"{out / 'a.jpg'}: JPEG holds no transparency" in line


def test_output_larger_than_its_format(
    refused: Refused, weights: Path, out: Path, tmp_path: Path
) -> None:
    source = write_photograph(tmp_path / "a.png", 1, 8200)
    line = refused("upscale", source, out / "a.webp", "-c", weights)
    assert "16400x2 pixels are too many for WEBP" in line


# --- some of many fail ---


def test_one_of_many_is_truncated(run: Run, pictures: Path, weights: Path, out: Path) -> None:
    broken = write_photograph(pictures / "00.png", 30, 56)
    broken.write_bytes(broken.read_bytes()[:-1000])
    target = out / "large"
    result = run("upscale", pictures, target, "-c", weights, "--json", out / "figures.json")
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("ptqsr: ")]
    assert len(lines) == 2 and lines[0].startswith(f"ptqsr: {broken}: cannot be read (")
    assert lines[1] == "ptqsr: 1 of 3 files failed, the others are written"
    assert list(content(target)) == ["0.png", "1.png"]
    records = json.loads((out / "figures.json").read_text())
    failed = [record for record in records if "error" in record]
    assert len(records) == 3 and [record["source"] for record in failed] == [str(broken)]
    assert f"ptqsr: {failed[0]['error']}" == lines[0]


def test_all_of_many_fail(run: Run, pictures: Path, weights: Path, out: Path) -> None:
    result = run("upscale", pictures, out, "-c", weights, "--memory", "1MB")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 3 and all(line.startswith("ptqsr: ") for line in lines)
    assert lines[2] == "ptqsr: 2 of 2 files failed, none is written"
    assert not content(out)


def test_a_place_is_taken(run: Run, pictures: Path, weights: Path, out: Path) -> None:
    """Where one picture should go there is a file for a folder, and a folder for a file."""
    write_photograph(pictures / "sub" / "a.png", 9, 7)
    (out / "sub").write_text("no folder")
    (out / "0.png").mkdir()
    result = run("upscale", pictures, out, "-c", weights, "--overwrite")
    assert result.exit_code == 2
    assert f"ptqsr: {out / '0.png'}: is a folder; name a file\n" in result.stderr
    assert f"ptqsr: {out / 'sub' / 'a.png'}: cannot be written (" in result.stderr
    assert "ptqsr: 2 of 3 files failed, the others are written\n" in result.stderr
    assert list(content(out)) == ["0.png", "1.png", "sub"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")], ids=repr
)
def test_out_of_memory(
    run: Run,
    refused: Refused,
    pictures: Path,
    weights: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("ptqsr.jobs.run.upscale_fitting", fail)
    line = refused("upscale", pictures / "0.png", out, "-c", weights)
    assert f"{pictures / '0.png'}: out of memory; set --memory" in line
    result = run("upscale", pictures, out, "-c", weights)
    assert result.exit_code == 2 and result.stderr.count("out of memory") == 2


# --- inputs that cannot be had ---


def test_missing_input(refused: Refused, weights: Path, out: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone.png"
    assert f"{gone}: no such file or folder" in refused("upscale", gone, out, "-c", weights)
    line = refused("upscale", out, out.parent / "new", "-c", weights)
    assert f"{out}: holds no picture" in line
    assert not (out.parent / "new").exists()


def test_missing_network(refused: Refused, picture: Path, out: Path) -> None:
    assert "edsr_x9: no such file, nor bundled weights" in refused(
        "upscale", picture, out, "-c", "edsr_x9"
    )


def test_truncated_picture(refused: Refused, picture: Path, weights: Path, out: Path) -> None:
    picture.write_bytes(picture.read_bytes()[:-1000])
    assert f"{picture}: cannot be read (" in refused("upscale", picture, out, "-c", weights)


def test_folder_without_permission(
    refused: Refused, pictures: Path, weights: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a user who is not root: somewhere below, pictures would be missed."""
    closed = write_photograph(pictures / "closed" / "2.png", 9, 7).parent
    scandir = os.scandir

    def guarded(path: Any = ".") -> Any:
        if Path(os.fsdecode(path)) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    line = refused("upscale", pictures, out / "new", "-c", weights)
    assert line == f"ptqsr: {closed}: cannot be read (Permission denied)"


@not_as_root
def test_permissions(refused: Refused, pictures: Path, weights: Path, out: Path) -> None:
    closed = write_photograph(pictures / "closed" / "2.png", 9, 7).parent
    closed.chmod(0)
    line = refused("upscale", pictures, out, "-c", weights)
    closed.chmod(0o700)
    assert line == f"ptqsr: {closed}: cannot be read (Permission denied)"
    out.chmod(0o500)
    line = refused("upscale", pictures / "0.png", out, "-c", weights)
    out.chmod(0o700)
    assert "no permission" in line
    (pictures / "0.png").chmod(0)
    assert "Permission denied" in refused("upscale", pictures / "0.png", out, "-c", weights)


# --- outputs that have no place ---


@pytest.mark.parametrize("name", ["a.xyz", "a.gif", "a", "a.pdf"])
def test_unknown_suffix(
    refused: Refused, picture: Path, weights: Path, out: Path, name: str
) -> None:
    line = refused("upscale", picture, out / name, "-c", weights)
    assert f"{out / name}: pictures are written as .png, .webp" in line


def test_no_folder_for_the_output(
    refused: Refused, picture: Path, pictures: Path, weights: Path, out: Path
) -> None:
    gone = out / "gone" / "a.png"
    assert f"{gone}: there is no folder" in refused("upscale", picture, gone, "-c", weights)
    line = refused("upscale", picture, out, "-c", weights, "--json", gone)
    assert f"{gone}: there is no folder" in line
    (out / "file").write_text("mine")
    line = refused("upscale", pictures, out / "file", "-c", weights)
    assert f"{out / 'file'}: is a file; name a folder" in line


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("way", ["path", "dots", "symlink", "hard link", "folder"])
def test_output_that_is_the_input(
    refused: Refused, weights: Path, out: Path, way: str, overwrite: tuple[str, ...]
) -> None:
    source = write_photograph(out / "a.png", 9, 7)
    target = {
        "path": source,
        "dots": out / ".." / out.name / "a.png",
        "symlink": out / "b.png",
        "hard link": out / "b.png",
        "folder": out,
    }[way]
    if way == "symlink":
        target.symlink_to(source)
    if way == "hard link":
        target.hardlink_to(source)
    line = refused("upscale", source, target, "-c", weights, *overwrite)
    assert "is the picture that is read; name another" in line


@pytest.mark.parametrize("inside", [".", "sub", "sub/new", "../pictures/sub", "link/sub"])
def test_output_inside_the_input(
    refused: Refused, pictures: Path, weights: Path, inside: str
) -> None:
    """A second run would read what the first has written."""
    write_photograph(pictures / "sub" / "a.png", 9, 7)
    (pictures / "link").symlink_to(pictures)
    before = content(pictures)
    line = refused("upscale", pictures, pictures / inside, "-c", weights, "--overwrite")
    assert f"{pictures / inside}: lies in {pictures}" in line
    assert content(pictures) == before


def test_outputs_that_are_inputs(refused: Refused, weights: Path, out: Path) -> None:
    """Through a folder inside the output, or a link in it."""
    source = write_photograph(out / "in" / "in" / "a.png", 9, 7).parents[1]
    write_photograph(source / "a.png", 9, 7)
    line = refused("upscale", source, out, "-c", weights, "--overwrite")
    assert f"{source / 'a.png'}: is a picture that is read" in line
    target = out / "large"
    target.mkdir()
    (target / "a.png").symlink_to(source / "a.png")
    line = refused("upscale", source, target, "-c", weights, "--overwrite")
    assert f"{target / 'a.png'}: is a picture that is read" in line


def test_existing_outputs(
    run: Run, refused: Refused, pictures: Path, weights: Path, out: Path
) -> None:
    for name in ("0.png", "1.png"):
        (out / name).write_bytes(b"mine")
    line = refused("upscale", pictures / "0.png", out, "-c", weights)
    assert line.startswith(
        f"ptqsr: {out / '0.png'}: exists; name another place, or give --overwrite"
    )
    assert f"{out / '0.png'} and 1 more: exists" in refused("upscale", pictures, out, "-c", weights)
    assert run("upscale", pictures, out, "-c", weights, "--overwrite").exit_code == 0
    assert list(content(out)) == ["0.png", "1.png"]
    assert read_rgb(out / "1.png").shape == (60, 112, 3)


def test_going_on_with_a_folder(
    run: Run, refused: Refused, pictures: Path, weights: Path, out: Path
) -> None:
    (out / "0.png").write_bytes(b"mine")
    result = run("upscale", pictures, out, "-c", weights, "--skip-existing")
    assert result.exit_code == 0 and "already there: 1, to make: 1" in result.stderr
    assert (out / "0.png").read_bytes() == b"mine"
    assert read_rgb(out / "1.png").shape == (60, 112, 3)
    both = ("--skip-existing", "--overwrite")
    assert "exclude each other" in refused("upscale", pictures, out, "-c", weights, *both)


def test_a_place_that_cannot_be_is_seen_before_the_work(
    refused: Refused, pictures: Path, weights: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqsr.cli.upscale.open_network", None)
    (out / "file").write_bytes(b"mine")
    line = refused("upscale", pictures, out / "file" / "deep", "-c", weights)
    assert f"{out / 'file'} is a file; name a folder" in line


def test_scale_that_contradicts_the_network(refused: Refused, picture: Path, out: Path) -> None:
    assert "edsr_x4: is for scale 4, not 2" in refused("upscale", picture, out, "--scale", 2)


def test_linked_folders_are_followed_once(
    run: Run, pictures: Path, weights: Path, out: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "link").symlink_to(pictures, target_is_directory=True)
    (pictures / "back").symlink_to(source, target_is_directory=True)
    assert run("upscale", source, out / "large", "-c", weights).exit_code == 0
    written = [name for name in content(out) if name.endswith(".png")]
    assert written == ["large/link/0.png", "large/link/1.png"]


def test_failure_leaves_the_old_picture(
    refused: Refused, picture: Path, weights: Path, out: Path
) -> None:
    (out / "0.png").write_bytes(b"mine")
    picture.write_bytes(picture.read_bytes()[:-1000])
    refused("upscale", picture, out, "-c", weights, "--overwrite")


def test_two_inputs_for_one_output(run: Run, pictures: Path, weights: Path, out: Path) -> None:
    """Both keep their endings in the name."""
    write_photograph(pictures / "0.jpg", 9, 7)
    assert run("upscale", pictures, out, "-c", weights).exit_code == 0
    assert list(content(out)) == ["0.jpg.png", "0.png.png", "1.png"]
    assert read_rgb(out / "0.jpg.png").shape == (18, 14, 3)


def test_longer_names_are_places_too(tmp_path: Path) -> None:
    """That which 0.png gets because of 0.jpg is where 0.png.bmp would go."""
    for name in ("0.png", "0.jpg", "0.png.bmp", "0.png.bmp.jpg", "1.png"):
        (tmp_path / name).touch()
    jobs = list_jobs(tmp_path, tmp_path.with_name("out"))
    found = {job.source.name: job.target.name for job in jobs}
    assert found.pop("1.png") == "1.png"
    assert found == {name: f"{name}.png" for name in found} and len(found) == 4


# --- options ---


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--tile", 4), "tile is 4; it must be at least 8"),
        (("--tile", -1), "tile is -1"),
        (("--stats", "foo"), "stats 'foo' is unknown; choose image or tile"),
        (("--tile", 64, "--memory", "2GB"), "either a tile or a memory limit"),
        (("--scale", 4), "scale 2, not 4"),
        (("--memory", "1KB"), "pixels take about 0."),
        (("--memory", "0"), "more than the limit of 0 GB (--memory); raise it"),
        (("--memory", ".000_1GB"), "--memory .000_1GB: give a size as 2GB, 800MB or 1.5GiB"),
        *(
            (("--memory", text), f"--memory {text}: give a size as")
            for text in ("nonsense", "GB", "2TB", "-2GB", "2 G B", "5I", "5iB", "1e3", "inf", "nan")
        ),
        (("--memory", ""), "--memory : give a size"),
        (("--memory", "2"), "--memory 2: are so many bytes; give a unit, as 2GB"),
        (("--memory", "2.5"), "--memory 2.5: are so many bytes; give a unit, as 2GB"),
        (("--memory", "9" * 400), "give a size as"),
    ],
    ids=lambda value: " ".join(map(str, value))[:30] if isinstance(value, tuple) else "",
)
def test_bad_option(
    refused: Refused,
    picture: Path,
    weights: Path,
    out: Path,
    options: tuple[object, ...],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What this process takes grows with the tests that ran in it before.
    monkeypatch.setattr("ptqsr.upscaling.plan._in_use", lambda device: 400_000_000)
    assert named in refused("upscale", picture, out, "-c", weights, *options)


@pytest.mark.parametrize(
    ("text", "bytes"),
    [
        ("2GB", 2 * 10**9),
        ("2g", 2 * 10**9),
        ("800MB", 800 * 10**6),
        ("800 mb", 800 * 10**6),
        ("1.5GiB", 3 * 2**29),
        (".5KiB", 512),
        ("3Ki", 3 * 2**10),
        ("4M", 4 * 10**6),
        ("3000000000", 3 * 10**9),
        ("7B", 7),
    ],
)
def test_sizes_of_memory(text: str, bytes: int) -> None:
    assert Planner(tiny_edsr(), memory=text).memory == bytes


def test_too_little_memory(
    run: Run,
    refused: Refused,
    checkpoint: Path,
    picture: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It names the picture, what it takes, and the way out where there is one."""
    monkeypatch.setattr("ptqsr.upscaling.plan._in_use", lambda device: 10**9)
    job = ("upscale", picture, out / "a.png", "-c", checkpoint, "--memory", "1GB")
    line = refused(*job)
    assert f"{picture}: 56x30 pixels take about 1.01 GB, more than the limit of 1.00 GB" in line
    # Nothing would make it fit here; on a large picture tiles would.
    assert "--stats" not in line and "--stats" not in refused(*job, "--stats", "tile")


# --- interruptions ---


@pytest.mark.parametrize("old", [None, b"mine"])
def test_interrupted_while_it_writes(
    run: Run,
    picture: Path,
    weights: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: bytes | None,
) -> None:
    def interrupted(image: Image.Image, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"the beginning")
        raise KeyboardInterrupt

    if old is not None:
        (out / "0.png").write_bytes(old)
    before = content(out)
    monkeypatch.setattr(Image.Image, "save", interrupted)
    result = run("upscale", picture, out, "-c", weights, "--overwrite")
    assert result.exit_code == 130
    assert result.stderr == "ptqsr: interrupted; no unfinished file is left\n"
    assert content(out) == before


def test_interrupted_among_many(
    run: Run, pictures: Path, weights: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written already stays, whole."""
    write = ptqsr.jobs.run.write_picture

    def once(path: Path, picture: Any) -> None:
        if path.name == "1.png":
            raise KeyboardInterrupt
        write(path, picture)

    monkeypatch.setattr("ptqsr.jobs.run.write_picture", once)
    assert run("upscale", pictures, out, "-c", weights).exit_code == 130
    assert list(content(out)) == ["0.png"]
    assert read_rgb(out / "0.png").shape == (60, 112, 3)
