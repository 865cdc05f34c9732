"""--device: what is said where there is no GPU, and the same figures where there is one."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ptqsr
from ptqsr import native
from ptqsr.cli.device import use_device
from ptqsr.errors import PtqsrError
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import SubsetQuantizer

from .conftest import Run

# The function of that name hides the module.
upscaling_run = importlib.import_module("ptqsr.upscaling.run")

pytestmark = pytest.mark.usefixtures("one_thread")
Refused = Callable[..., str]
COMMANDS = ("calibrate", "evaluate", "report", "upscale")


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let PyTorch say that there is a T4, and this build that it has kernels for it."""
    allowed = torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(native, "cuda_problem", lambda capability: None)
    yield monkeypatch
    torch.backends.cudnn.allow_tf32 = allowed


def test_the_cpu_and_a_gpu(a_gpu: pytest.MonkeyPatch) -> None:
    torch.backends.cudnn.allow_tf32 = True
    assert use_device("cpu") == torch.device("cpu") and torch.backends.cudnn.allow_tf32
    assert use_device("cuda") == use_device("cuda:0") == torch.device("cuda", 0)
    assert not torch.backends.cudnn.allow_tf32


def refusal(name: str) -> str:
    with pytest.raises(PtqsrError, match=f"^--device {name}: ") as error:
        use_device(name)
    return str(error.value)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "mps", "", "CUDA"])
def test_no_device(name: str) -> None:
    assert "choose cpu, cuda, cuda:1, ..." in refusal(name)


def test_pytorch_without_cuda(a_gpu: pytest.MonkeyPatch) -> None:
    a_gpu.setattr(torch.version, "cuda", None)
    line = refusal("cuda")
    assert f"this PyTorch ({torch.__version__}) is built without CUDA; install one" in line
    assert line.endswith("; or use --device cpu")


def test_no_gpu(a_gpu: pytest.MonkeyPatch) -> None:
    a_gpu.setattr(torch.cuda, "device_count", lambda: 0)
    assert "PyTorch finds no GPU; nvidia-smi" in refusal("cuda")


def test_no_such_number(a_gpu: pytest.MonkeyPatch) -> None:
    assert "PyTorch finds 1, the last is cuda:0" in refusal("cuda:1")


def test_an_old_driver(a_gpu: pytest.MonkeyPatch) -> None:
    def fail(device: object) -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old\nPlease update")

    a_gpu.setattr(torch.cuda, "get_device_capability", fail)
    line = refusal("cuda")
    assert "CUDA does not start (The NVIDIA driver on your system is too old); see" in line


def test_an_old_gpu(a_gpu: pytest.MonkeyPatch) -> None:
    a_gpu.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    assert "Tesla T4 has compute capability 7.0; give a GPU of 7.5 or newer" in refusal("cuda")


def test_no_kernels(a_gpu: pytest.MonkeyPatch) -> None:
    a_gpu.setattr(native, "cuda_problem", lambda capability: f"built without CUDA: {capability}")
    assert "would run by slow PyTorch references there (built without CUDA: 75)" in refusal("cuda")


@pytest.fixture
def arguments(
    job: list[object], checkpoint: Path, pictures: Path, out: Path
) -> dict[str, list[object]]:
    return {
        "calibrate": [*job, "-o", out / "made.safetensors"],
        "evaluate": ["evaluate", checkpoint, "--data", pictures, "--json", out / "made.json"],
        "report": ["report", checkpoint, "--data", pictures, "-o", out / "made.html"],
        "upscale": ["upscale", pictures / "0.png", out / "made.png", "-c", checkpoint],
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_say_so_first(
    command: str, refused: Refused, arguments: dict[str, list[object]], out: Path
) -> None:
    line = refused(*arguments[command], "--device", "cuda")
    assert line.startswith("ptqsr: --device cuda: ") and line.endswith("or use --device cpu")
    assert not list(out.glob("made*"))


# --- memory ---

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."


def test_the_gpu_is_out_of_memory(
    run: Run,
    arguments: dict[str, list[object]],
    pictures: Path,
    checkpoint: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It names the picture and the options; of a folder the other pictures are written."""
    made = upscaling_run.upscale_picture

    def upscale_picture(network: Any, picture: Any, *others: Any) -> Any:
        if (picture.rgb == np.asarray(Image.open(pictures / "0.png"))).all():
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return made(network, picture, *others)

    monkeypatch.setattr(upscaling_run, "upscale_picture", upscale_picture)
    result = run(*arguments["upscale"])
    name = pictures / "0.png"
    *retries, last = result.stderr.splitlines()
    assert result.exit_code == 2 and last == (
        f"ptqsr: {name}: out of memory on cpu; set --memory below what is free "
        "there, or --tile, or use --device cpu"
    )
    assert retries and all(
        line.startswith(f"ptqsr: warning: {name}: out of memory by ") for line in retries
    )
    result = run("upscale", pictures, out, "-c", checkpoint)
    assert result.exit_code == 2 and "1 of 2 files failed, the others are written" in (
        result.stderr
    )
    assert (out / "1.png").exists() and not (out / "0.png").exists()


def test_out_of_memory_elsewhere(
    refused: Refused, arguments: dict[str, list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    monkeypatch.setattr("ptqsr.cli.evaluate.measure", measure)
    line = refused(*arguments["evaluate"])
    assert line == "ptqsr: out of memory on the GPU; use smaller pictures, or --device cpu"


# --- on a GPU ---


@pytest.fixture(params=["simulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What --device gets: a GPU, or tensors that say they are on one."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        allowed = torch.backends.cudnn.allow_tf32
        yield "cuda"
        torch.backends.cudnn.allow_tf32 = allowed
        return
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, which simulates better")
    # PyTorch has one such device in a process, from here to its end: imported where it is wanted.
    simulated = pytest.importorskip("simulated_gpu")
    devices = {"cpu": torch.device("cpu"), "simulated": simulated.gpu()}
    for module in ("calibrate", "networks"):
        monkeypatch.setattr(f"ptqsr.cli.{module}.use_device", devices.__getitem__)
    with simulated.simulated_gpu():
        yield "simulated"


EDGES = ("--edges", 8)


@pytest.mark.parametrize(
    ("method", "edges"), [("dfsq", EDGES), ("minmax", ()), ("percentile", EDGES)]
)
def test_calibrate(
    run: Run, job: list[object], out: Path, method: str, edges: tuple[object, ...], gpu: str
) -> None:
    """The same quantizers, but where rounding on a GPU decides."""
    found = []
    for device in ((), ("--device", gpu)):
        json_file = ("--json", out / "figures.json")
        result = run(*job, "--method", method, *edges, *device, *json_file)
        assert result.exit_code == 0, result.output
        found.append((ptqsr.load(out / "q.safetensors"), json.loads(json_file[1].read_text())))
    (expected, their), (got, ours) = found
    assert their["device"] == "cpu" and ours["device"] == ("cuda:0" if gpu == "cuda" else "gpu:0")
    assert abs(their["psnr"]["quantized"] - ours["psnr"]["quantized"]) < 0.05
    assert abs(their["psnr"]["full_precision"] - ours["psnr"]["full_precision"]) < 0.001
    same = total = 0
    for (name, a), (other, b) in zip(layers(expected), layers(got), strict=True):
        assert name == other
        # Weights are rounded by operations that are exact everywhere.
        assert torch.equal(a.weight_codes, b.weight_codes), name
        assert torch.equal(a.weight_step, b.weight_step), name
        for one, another in zip(a.quantizer.parts, b.quantizer.parts, strict=True):
            if isinstance(one, SubsetQuantizer):
                assert torch.equal(one.nonnegative, another.nonnegative), name
                same += int((one.points == another.points).sum())
                total += one.points.numel()
            else:
                torch.testing.assert_close(one.step, another.step, rtol=1e-3, atol=0)
                assert torch.equal(one.lowest, another.lowest), name
    if total:
        assert same >= (0.9 if gpu == "cuda" else 1.0) * total, f"{same} of {total} points"


def layers(network: torch.nn.Module) -> list[tuple[str, FakeQuantConv2d]]:
    return [(n, m) for n, m in network.named_modules() if isinstance(m, FakeQuantConv2d)]


def test_calibrate_on_network_inputs(run: Run, job: list[object], gpu: str) -> None:
    """Then the float network makes what is compared with."""
    result = run(*job, "--low-resolution", "--device", gpu, "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["psnr"]["quantized"] > 20


@pytest.mark.parametrize(("deploy", "edges"), [((), ()), (("--deploy",), EDGES)])
def test_evaluate(
    run: Run,
    job: list[object],
    pictures: Path,
    out: Path,
    gpu: str,
    deploy: tuple[str, ...],
    edges: tuple[object, ...],
    deploys: None,
) -> None:
    assert run(*job, *edges).exit_code == 0
    psnr = []
    for device in ((), ("--device", gpu)):
        arguments = (out / "q.safetensors", "--data", pictures, *deploy, *device, "--json", "-")
        (figures,) = json.loads(run("evaluate", *arguments).stdout)
        psnr.append(figures["data"][str(pictures)]["psnr"])
    assert figures["device"] in ("cuda:0", "gpu:0")
    assert abs(psnr[0] - psnr[1]) < 0.02


@pytest.mark.parametrize("deploy", [(), ("--deploy",)], ids=["simulated", "deployed"])
@pytest.mark.parametrize("options", [(), ("--tile", 16), ("--memory", "3GB")], ids=str)
def test_upscale(
    run: Run,
    checkpoint: Path,
    pictures: Path,
    out: Path,
    gpu: str,
    deploy: tuple[str, ...],
    options: tuple[object, ...],
    deploys: None,
) -> None:
    made = []
    for number, device in enumerate(((), ("--device", gpu))):
        file = out / f"{number}.png"
        arguments = (pictures / "0.png", file, "-c", checkpoint, *deploy, *device, *options)
        result = run("upscale", *arguments)
        assert result.exit_code == 0, result.output
        made.append(np.asarray(Image.open(file)).astype(int))
    # A float16 that is rounded the other way flips codes.
    assert np.abs(made[0] - made[1]).max() <= (1 if gpu == "simulated" or not deploy else 3)
    assert np.abs(made[0] - made[1]).mean() < 0.1


@pytest.fixture
def deploys(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated GPU runs the CPU's program."""
    if gpu == "simulated":
        deploy = ptqsr.deployment.deploy
        monkeypatch.setattr(
            "ptqsr.deployment.deploy",
            lambda network, device, **options: deploy(network, "cpu", **options).to(device),
        )
