"""The same results on a Ray cluster of two workers: one test, for a cluster takes its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_edsr, write_photograph
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from ptqsr import PtqsrError
from ptqsr.cli.app import app
from ptqsr.cluster import Ray
from ptqsr.jobs.manifest import NAME


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    ray = pytest.importorskip("ray", reason='needs pip install "ptqsr[ray]"')
    pytest.importorskip("ray.data", reason='needs pip install "ptqsr[ray]"')
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
    root = str(Path(__file__).resolve().parents[2])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 << 20,
        logging_level="ERROR",
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": root}},
    )
    yield
    ray.shutdown()


def outputs(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME
    }


def test_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason='needs pip install "ptqsr[ray]"')

    def fail(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nmore")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(PtqsrError, match=r"no cluster is reached by .* \(The current .*\.\)$"):
        Ray()


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("one_thread", "cluster")
def test_two_workers_give_what_one_process_does(tmp_path: Path) -> None:
    """Calibration to the same bits, upscaling to the same files; each starts two workers."""
    weights, pictures = tmp_path / "tiny.safetensors", tmp_path / "pictures"
    save_file(tiny_edsr().state_dict(), weights)
    for number in range(6):
        write_photograph(pictures / f"{number}.png", 30, 56, number)
    broken = pictures / "broken.png"

    def run(*arguments: object, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, result.output
        return result

    done = {}
    for name, engine in (("here", ()), ("ray", ("--engine", "ray"))):
        checkpoint = tmp_path / name / "q.safetensors"
        checkpoint.parent.mkdir()
        calibrate = ("calibrate", "--model", "edsr", "--weights", weights, "--images", pictures)
        options = ("--method", "minmax", "--patch-size", 12, "--num-images", 5)
        run(*calibrate, *options, "-o", checkpoint, *engine)
        target = tmp_path / name / "large"
        broken.write_text("no picture")
        result = run("upscale", pictures, target, "-c", weights, *engine, code=2)
        assert "1 of 7 files failed, the others are written" in result.stderr
        done[name] = (load_file(checkpoint), outputs(target))
        assert (target / NAME).exists()
        broken.unlink()
    here, there = done["here"], done["ray"]
    assert here[0].keys() == there[0].keys()
    assert all(tensor.equal(there[0][key]) for key, tensor in here[0].items())
    assert here[1] == there[1] and len(here[1]) == 6
