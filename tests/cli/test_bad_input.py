"""Every mistake of a user ends as one line that names it, exit code 2, and no file left behind."""

from __future__ import annotations

import errno
import json
import os
import pickle
import pty
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_edsr, write_photograph
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import ptqsr.checkpoint
from ptqsr import models

from .conftest import OPTIMAL, start

pytestmark = pytest.mark.usefixtures("one_thread")

Refused = Callable[..., str]
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")


@pytest.fixture
def out(out: Path) -> Iterator[Path]:
    """No test of this file leaves a file behind: what may stay, it deletes itself."""
    yield out
    assert not list(out.iterdir())


def edited(path: Path, **changes: Any) -> Path:
    """Save tiny weights with some tensors changed (None takes one away)."""
    state = {**tiny_edsr().state_dict(), **{k.replace("__", "."): v for k, v in changes.items()}}
    save_file({name: t for name, t in state.items() if t is not None}, path)
    return path


# --- files that are missing or not what they should be ---


def test_missing_files(refused: Refused, job: list[object], tmp_path: Path) -> None:
    gone = tmp_path / "gone.pt"
    assert f"{gone}: no such file" in refused(*job, "--weights", gone)
    assert "no such folder" in refused(*job, "--images", tmp_path / "gone")
    assert str(gone) in refused("evaluate", gone, "--data", tmp_path)
    assert f"{tmp_path}: is a folder; name a file" in refused(*job, "--weights", tmp_path)
    write_photograph(tmp_path / "a.png", 20, 20, 0)
    line = refused(*job, "--images", tmp_path / "a.png")
    assert f"{tmp_path / 'a.png'}: is a file; name its folder" in line


def test_missing_data_is_seen_before_the_work(
    refused: Refused, weights: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqsr.cli.evaluate.measure", None)
    assert "gone" in refused("evaluate", weights, "--data", pictures, "--data", "gone")


@not_as_root
def test_unreadable_files(
    refused: Refused, job: list[object], weights: Path, pictures: Path
) -> None:
    weights.chmod(0)
    assert str(weights) in refused(*job)
    assert str(weights) in refused("evaluate", weights, "--data", pictures)
    weights.chmod(0o600)
    picture = pictures / "0.png"
    picture.chmod(0)
    assert str(picture) in refused(*job)


def test_text_named_png(refused: Refused, job: list[object], pictures: Path) -> None:
    (pictures / "2.png").write_text("no picture at all")
    assert f"{pictures / '2.png'}: not a picture" in refused(*job)


def test_truncated_picture(refused: Refused, job: list[object], pictures: Path) -> None:
    path = pictures / "0.png"
    path.write_bytes(path.read_bytes()[:-1000])
    assert str(path) in refused(*job)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", ".npz", ".ckpt"])
@pytest.mark.parametrize(
    "content",
    [b"", b"no weights", bytes(64), b"PK\x03\x04" + bytes(60)],
    ids=["empty", "text", "zeros", "zip"],
)
def test_no_weight_file(
    refused: Refused, job: list[object], tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    assert str(path) in refused(*job, "--weights", path)


def test_npz_of_strings(refused: Refused, job: list[object], tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, weight=np.array(["a"]))
    assert str(path) in refused(*job, "--weights", path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
def test_damaged_weight_files(tmp_path: Path, suffix: str) -> None:
    """Whatever is cut off or overwritten: weights, or PtqsrError, and no other exception."""
    state, whole = tiny_edsr().state_dict(), tmp_path / f"whole{suffix}"
    if suffix == ".pt":
        torch.save(state, whole)
    elif suffix == ".npz":
        np.savez_compressed(whole, **{name: t.numpy() for name, t in state.items()})
    else:
        save_file(state, whole)
    content, path = whole.read_bytes(), tmp_path / f"w{suffix}"
    rng = np.random.default_rng(0)
    for trial in range(60):
        damaged = bytearray(content)
        where = int(rng.integers(len(content) if trial % 2 else 2000))
        if trial % 3:
            damaged[where : where + 4] = rng.bytes(4)
        else:
            del damaged[where:]
        path.write_bytes(damaged)
        try:
            models.build("edsr", scale=2, weights=path)
        except ptqsr.PtqsrError as error:
            assert str(path) in str(error)


class Evil:
    """Unpickled by an ordinary reader, it makes a file."""

    def __init__(self, marker: Path, shell: bool = False) -> None:
        self.marker, self.shell = marker, shell

    def __reduce__(self) -> tuple[Any, ...]:
        if self.shell:
            return (os.system, (f"touch {self.marker}",))
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("shell", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_that_runs_code(
    refused: Refused, job: list[object], tmp_path: Path, zipped: bool, shell: bool, protocol: int
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.pt"
    torch.save(
        {"w": torch.zeros(1), "evil": Evil(marker, shell)},
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    line = refused(*job, "--weights", path)
    assert f"{path}: refused" in line and "run code" in line
    assert not marker.exists()
    path.write_bytes(pickle.dumps(Evil(marker)))
    assert str(path) in refused("evaluate", path, "--data", tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"# ptqsr\n\nText.", b"hello world", bytes(range(256))])
def test_no_weights_at_all(
    refused: Refused, job: list[object], tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    line = refused(*job, "--weights", path)
    assert f"{path}: truncated or no weight file; copy or download it again" in line


# --- weights of another network, or without sense ---


def test_weights_of_another_architecture(
    refused: Refused, job: list[object], tmp_path: Path
) -> None:
    path = tmp_path / "imdn.pt"
    torch.save(models.build("imdn", scale=2, weights=None).state_dict(), path)
    line = refused(*job, "--weights", path)
    assert str(path) in line and "EDSR" in line and "head.0.weight" in line


def test_weights_of_no_architecture(refused: Refused, tmp_path: Path, pictures: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"layer.weight": torch.zeros(3)}, path)
    line = refused("evaluate", path, "--data", pictures)
    assert str(path) in line and "layer.weight" in line
    torch.save([1, 2], path)
    assert str(path) in refused("evaluate", path, "--data", pictures)


def test_wrong_shape(refused: Refused, job: list[object], tmp_path: Path) -> None:
    path = edited(tmp_path / "w.safetensors", body__0__body__0__weight=torch.zeros(16, 16, 5, 5))
    line = refused(*job, "--weights", path)
    assert "body.0.body.0.weight" in line and "(16, 16, 5, 5)" in line and "(16, 16, 3, 3)" in line


def test_missing_and_additional_keys(refused: Refused, job: list[object], tmp_path: Path) -> None:
    path = edited(tmp_path / "w.safetensors", body__1__body__2__bias=None)
    assert "lacks body.1.body.2.bias" in refused(*job, "--weights", path)
    path = edited(tmp_path / "w.safetensors", tail__7__bias=torch.zeros(3))
    assert "tail.7.bias" in refused(*job, "--weights", path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(
    refused: Refused, job: list[object], tmp_path: Path, value: float
) -> None:
    weight = torch.zeros(16, 16, 3, 3)
    weight[3, 2, 1, 0] = value
    path = edited(tmp_path / "w.safetensors", body__1__body__0__weight=weight)
    line = refused(*job, "--weights", path)
    assert str(path) in line and "body.1.body.0.weight" in line


def test_activations_that_are_not_finite(
    refused: Refused, job: list[object], tmp_path: Path
) -> None:
    weight = torch.full((16, 16, 3, 3), 3e38)
    path = edited(tmp_path / "w.safetensors", body__0__body__0__weight=weight)
    assert "layer body.0.body.2" in refused(*job, "--weights", path)


# --- checkpoints ---


def test_truncated_checkpoint(refused: Refused, checkpoint: Path, pictures: Path) -> None:
    content = checkpoint.read_bytes()
    for length in (0, 4, 100, len(content) // 2, len(content) - 1):
        checkpoint.write_bytes(content[:length])
        assert str(checkpoint) in refused("evaluate", checkpoint, "--data", pictures)
    checkpoint.unlink()


def test_one_byte_flipped(refused: Refused, checkpoint: Path, pictures: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[-100] ^= 1
    checkpoint.write_bytes(content)
    line = refused("evaluate", checkpoint, "--data", pictures)
    assert str(checkpoint) in line and "digest" in line
    checkpoint.unlink()


def test_any_byte_flipped(checkpoint: Path) -> None:
    """In the header too: never a network that differs, never another exception."""
    content = checkpoint.read_bytes()
    for where in range(0, len(content), len(content) // 150):
        damaged = bytearray(content)
        damaged[where] ^= 4
        checkpoint.write_bytes(damaged)
        with pytest.raises(ptqsr.PtqsrError, match=r"q\.safetensors"):
            ptqsr.load(checkpoint)
    checkpoint.unlink()


def rewrite(path: Path, **metadata: str) -> None:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {**file.metadata(), **metadata}
    save_file(tensors, path, metadata)


def test_edited_manifest(refused: Refused, checkpoint: Path, pictures: Path) -> None:
    manifest, _ = ptqsr.checkpoint.read(checkpoint)
    manifest["provenance"]["pictures"] = []
    rewrite(checkpoint, manifest=json.dumps(manifest))
    line = refused("evaluate", checkpoint, "--data", pictures)
    assert str(checkpoint) in line and "digest" in line
    checkpoint.unlink()


def test_unknown_format_version(refused: Refused, checkpoint: Path, pictures: Path) -> None:
    rewrite(checkpoint, version="99")
    line = refused("evaluate", checkpoint, "--data", pictures)
    assert str(checkpoint) in line and "version 99" in line
    checkpoint.unlink()


def test_quantized_already(refused: Refused, job: list[object], checkpoint: Path) -> None:
    assert str(checkpoint) in refused(*job, "--weights", checkpoint)
    checkpoint.unlink()


# --- options ---


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--bits", 1), "bits is 1"),
        (("--bits", 9), "bits is 9"),
        (("--weight-bits", 1), "weight_bits is 1"),
        (("--weight-bits", 9), "weight_bits is 9"),
        (("--act-bits", 1), "act_bits is 1"),
        (("--act-bits", 9), "act_bits is 9"),
        (("--edges", 4), "edges is 4; it must be 8"),
        (("--seed", -1), "seed is -1"),
        (("--num-images", 0), "--num-images"),
        (("--patch-size", 0), "--patch-size"),
        (("--scale", 5), "scale"),
        (("--scale", 4), "scale 2, not 4"),
        (("--scale", 5, "--weights", "bundled"), "scale 5"),
        (("--model", "nonsense"), "nonsense"),
        (("--method", "nonsense"), "nonsense"),
        (("--selector", "nonsense"), "nonsense"),
        (("--universal-set", "nonsense"), "nonsense"),
        (("--include", "nonsense.*"), "nonsense.*"),
        (("--exclude", "nonsense.*"), "nonsense.*"),
        (("--exclude", "*"), "--include"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_option(
    refused: Refused, job: list[object], options: tuple[object, ...], named: str
) -> None:
    assert named in refused(*job, *options)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("no JSON", "is no JSON list"),
        ("7", "is no JSON list"),
        ("[[0, null]]", "is no JSON list"),
        ("[]", "at least one word"),
        ("[[0, 1], [1, 0.5]]", "lacks the element 0"),
        ("[[0, 0.3]]", "0.3"),
        ("[[0, NaN]]", "nan"),
        ("[[0, -1]]", "-1"),
    ],
)
def test_universal_set_file(
    refused: Refused, job: list[object], tmp_path: Path, content: str, named: str
) -> None:
    path = tmp_path / "words.json"
    path.write_text(content)
    line = refused(*job, "--universal-set", path)
    assert named in line and "words.json" in line


# --- pictures ---


def test_no_pictures(refused: Refused, job: list[object], tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "none"
    folder.mkdir()
    assert f"{folder}: holds no picture" in refused(*job, "--images", folder)
    (folder / "notes.txt").write_text("nothing")
    assert f"{folder}: holds no picture" in refused(*job, "--images", folder)
    assert f"{folder}: holds no picture" in refused("evaluate", weights, "--data", folder)


def test_all_pictures_smaller_than_a_patch(refused: Refused, job: list[object]) -> None:
    line = refused(*job, "--patch-size", 16)
    assert "32x32" in line and "--patch-size" in line and ".png" in line


def test_some_pictures_smaller_than_a_patch(
    run: Callable[..., Any], job: list[object], pictures: Path, out: Path
) -> None:
    write_photograph(pictures / "small.png", 10, 10)
    result = run(*job, *OPTIMAL)
    assert result.exit_code == 0
    assert "ptqsr: warning: " in result.stderr and "small.png" in result.stderr
    (out / "q.safetensors").unlink()


@pytest.mark.parametrize("method", ["dfsq", "minmax", "percentile"])
@pytest.mark.parametrize("size", [(1, 1), (24, 24)])
def test_constant_pictures(
    run: Callable[..., Any], job: list[object], out: Path, method: str, size: tuple[int, int]
) -> None:
    folder = out.parent / "constant"
    folder.mkdir()
    Image.new("RGB", size, (128, 128, 128)).save(folder / "grey.png")
    options = ("--images", folder, "--low-resolution", "--patch-size", size[0])
    result = run(*job, *options, "--method", method)
    assert result.exit_code == 0, result.output
    assert all(line.startswith("Written: ") for line in result.stderr.splitlines()), result.stderr
    result = run("evaluate", out / "q.safetensors", "--data", folder)
    assert result.exit_code == (2 if size == (1, 1) else 0), result.output  # 1x1: no LR of it
    (out / "q.safetensors").unlink()


def test_equal_pictures_have_infinite_psnr(run: Callable[..., Any], tmp_path: Path) -> None:
    """With all weights 0 the network answers with EDSR's mean colour."""
    state = {name: torch.zeros_like(t) for name, t in tiny_edsr().state_dict().items()}
    state = {name: t for name, t in state.items() if "mean" not in name}
    weights, folder = tmp_path / "w.safetensors", tmp_path / "grey"
    save_file(state, weights)
    folder.mkdir()
    Image.new("RGB", (2, 2), (114, 111, 103)).save(folder / "tiny.png")
    result = run("evaluate", weights, "--data", folder, "--per-image", "--json", "-")
    assert result.exit_code == 0
    assert "inf / nan" in result.stderr, result.stderr
    assert json.loads(result.stdout)[0]["data"][str(folder)]["psnr"] == "inf"


# --- where output cannot go ---


def test_output_without_a_place(refused: Refused, job: list[object], out: Path) -> None:
    gone = out / "gone" / "q.safetensors"
    assert f"{gone}: there is no folder" in refused(*job, "-o", gone)
    assert f"{out}: is a folder" in refused(*job, "-o", out)
    assert "is no regular file" in refused(*job, "-o", os.devnull)
    assert str(gone) in refused(*job, "--json", gone)
    assert not Path(os.devnull).is_file()
    long = out / ("q" * 300)
    assert str(long) in refused(*job, "-o", long)


@not_as_root
def test_output_without_permission(refused: Refused, job: list[object], out: Path) -> None:
    out.chmod(0o500)
    line = refused(*job)
    out.chmod(0o700)
    assert str(out / "q.safetensors") in line


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let writing fail in the middle of a file, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_writing_fails(refused: Refused, job: list[object], checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    with file_size_limit(5000):
        line = refused(*job, *OPTIMAL)
    assert f"{checkpoint}: cannot be written" in line
    assert checkpoint.read_bytes() == before
    checkpoint.unlink()


def test_no_space(
    refused: Refused, job: list[object], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"the beginning")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = checkpoint.read_bytes()
    monkeypatch.setattr("ptqsr.checkpoint.save_file", full)
    assert f"{checkpoint}: cannot be written (No space left" in refused(*job, *OPTIMAL)
    assert checkpoint.read_bytes() == before
    checkpoint.unlink()


def test_any_other_operating_system_error(
    refused: Refused, job: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "somewhere")

    monkeypatch.setattr("ptqsr.cli.calibrate.methods.calibrate", stale)
    assert "ptqsr: somewhere: Stale file handle" in refused(*job)


# --- Ctrl-C, and processes of their own ---


def test_interrupted_while_it_writes(
    run: Callable[..., Any],
    job: list[object],
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"the beginning")
        raise KeyboardInterrupt

    before = checkpoint.read_bytes()
    monkeypatch.setattr("ptqsr.checkpoint.save_file", interrupted)
    result = run(*job, *OPTIMAL)
    assert result.exit_code == 130 and result.stderr.startswith("ptqsr: interrupted")
    assert len(result.stderr.splitlines()) == 1
    assert checkpoint.read_bytes() == before
    checkpoint.unlink()


def test_control_c_during_calibration(job: list[object]) -> None:
    terminal, theirs = pty.openpty()  # progress is shown on a terminal alone
    process = start(
        *(*job, "--num-images", 400), stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how the end of a terminal's output shows
        while chunk := os.read(terminal, 1024):
            shown += chunk
            if b"ranges" in shown and process.poll() is None:
                process.send_signal(signal.SIGINT)
                break
        while chunk := os.read(terminal, 1024):
            shown += chunk
    os.close(terminal)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    assert stdout == "" and b"Traceback" not in shown
    assert b"ptqsr: interrupted" in shown.splitlines()[-1]


def test_exit_code_of_a_process(tmp_path: Path) -> None:
    process = start("evaluate", tmp_path / "gone.pt", "--data", tmp_path)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2 and stdout == ""
    assert stderr == f"ptqsr: {tmp_path / 'gone.pt'}: no such file\n"


def test_the_help_that_is_named_has_the_option() -> None:
    process = start("calibrate", "--modle", "edsr")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--modle" in stderr and stderr.endswith("(see ptqsr calibrate --help)\n")


def test_reader_that_leaves(tmp_path: Path) -> None:
    """`ptqsr info | true` ends without a traceback."""
    process = start("info", stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.wait(timeout=60)


def test_other_files_are_not_overwritten(
    refused: Refused, job: list[object], weights: Path, tmp_path: Path
) -> None:
    """Neither the weights themselves nor anything else that is no checkpoint of ours."""
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    for path in (weights, notes):
        before = path.read_bytes()
        line = refused(*job, "-o", path)
        ending = "checkpoints are safetensors; name one with that ending"
        assert f"{path}: {'exists and is no checkpoint' if path == weights else ending}" in line
        assert path.read_bytes() == before


def test_bundled_names_are_told(refused: Refused, pictures: Path) -> None:
    line = refused("evaluate", "edsr_x9", "--data", pictures)
    assert "edsr_x9: no such file, nor bundled weights: edsr_x2, edsr_x4" in line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (
            ("--method", "minmax", "--selector", "optimal"),
            "--selector optimal: is for --method dfsq",
        ),
        (("--method", "percentile", "--universal-set", "int8"), "--universal-set int8: is for"),
        (("--percentile", 5), "--percentile 5.0: is for --method percentile, not dfsq"),
        (("-o", "out.pt"), "out.pt: checkpoints are safetensors"),
        (("--set", "depth=3"), "model 'edsr' has no depth; it has batch_norm, blocks,"),
    ],
)
def test_options_that_would_do_nothing(
    refused: Refused, job: list[object], options: tuple[object, ...], named: str
) -> None:
    assert named in refused(*job, *options)
