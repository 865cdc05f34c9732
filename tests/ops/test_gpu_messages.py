"""What users are told where GPU kernels do not run, without a GPU."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from ptqsr import native, ops
from ptqsr.cli.app import app
from ptqsr.errors import is_out_of_memory
from ptqsr.ops.cuda import kernel
from ptqsr.ops.cuda.limits import EVERY, LIMITS, WITHOUT_KERNEL

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
OLD_DRIVER = "the driver serves CUDA 12.4, older than this build's 13.0: update the driver, or"


def built(problem: str = "", architectures: str = "75 80", **more: Any) -> SimpleNamespace:
    """A native module with CUDA kernels."""
    return SimpleNamespace(
        cuda=SimpleNamespace(), cuda_problem=lambda: problem, cuda_architectures=architectures,
        available_isas=lambda: ["portable"], compiler="none", **more,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Nobody has been warned yet."""
    for cached in (kernel.kernels_of, kernel._warn, native.cpu_isa):
        cached.cache_clear()
    yield
    for cached in (kernel.kernels_of, kernel._warn, native.cpu_isa):
        cached.cache_clear()


@pytest.mark.parametrize(
    "module, capability, words",
    [
        (None, 75, ["no native code"]),
        (SimpleNamespace(), 75, ["built without CUDA", "nvcc 12.0", "-DPTQSR_CUDA=ON pip install"]),
        (built(OLD_DRIVER), 75, [OLD_DRIVER]),
        (built(), 61, ["compute capability 6.1", "7.5 or newer"]),
        (built(architectures="90"), 75, ["7.5", "for 9.0 and newer", "ARCHITECTURES=75 pip"]),
    ],
    ids=["nothing native", "no CUDA", "old driver", "old GPU", "another GPU's build"],
)
def test_why_kernels_do_not_run(
    monkeypatch: pytest.MonkeyPatch, module: Any, capability: int, words: list[str]
) -> None:
    monkeypatch.setattr(native, "load", lambda: module)
    problem = native.cuda_problem(capability)
    assert problem is not None
    assert all(word in problem for word in words), problem


@pytest.mark.parametrize("capability", [75, 86, 90, 120])
@pytest.mark.parametrize("architectures", ["75 80 86 89 90", "75", "native", "90a 75"])
def test_kernels_run_on_newer_gpus(
    monkeypatch: pytest.MonkeyPatch, capability: int, architectures: str
) -> None:
    monkeypatch.setattr(native, "load", lambda: built(architectures=architectures))
    assert native.cuda_problem(capability) is None


def on_gpu(index: int) -> Any:
    """A stand-in for a tensor on a GPU."""
    tensor = torch.zeros(2, 3).as_subclass(OnGpu)
    tensor.index = index
    return tensor


class OnGpu(torch.Tensor):
    index: int

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.index)


def test_one_warning_for_all_operations_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "load", SimpleNamespace)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))

    def kernel_that_is_not_there(*_: object) -> None:
        raise AssertionError

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for index in (0, 1, 0):
            for reference in (lambda *_: "one", lambda *_: "two"):
                result = kernel.call(kernel_that_is_not_there, reference, ([on_gpu(index)], 4))
                assert result == reference()
    assert [str(warning.message).split(";")[0] for warning in caught] == [
        "ptqsr's operations run on the GPU as PyTorch references, much slower: built without CUDA"
    ]


def test_kernels_that_are_there_run_without_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    module = built()
    monkeypatch.setattr(native, "load", lambda: module)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = on_gpu(0)
        assert kernel.call(lambda *given: given, lambda *_: None, (x, 4)) == (module.cuda, x, 4)


def test_too_many_elements_name_the_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    emulated = pytest.importorskip("ptqsr._emulated")
    monkeypatch.setattr(kernel, "kernels_of", lambda _: emulated)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    a = torch.zeros(65536, 16, dtype=torch.int8)
    b = torch.zeros(32769, 16, dtype=torch.int8)
    message = r"gemm: more elements .* shapes \(65536, 16\), \(32769, 16\) .* fewer pictures"
    with pytest.raises(ValueError, match=message):
        kernel.call(
            kernel.KERNELS["gemm"], ops.gemm_s8, (a, b, 8, True, None, None, False, torch.int8)
        )


@pytest.mark.parametrize(
    "message, expected",
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB.", True),
        ("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", True),
        ("DefaultCPUAllocator: not enough memory: you tried", True),
        ("gemm: an illegal memory access was encountered", False),
    ],
)
def test_out_of_memory_is_told_from_wrong_addresses(message: str, expected: bool) -> None:
    assert is_out_of_memory(RuntimeError(message)) is expected


def gpu(capability: str, compiled_for: int = 750) -> dict[str, Any]:
    return {
        "name": "T",
        "compute_capability": capability,
        "memory": 1,
        "compiled_for": compiled_for,
    }


@pytest.mark.parametrize(
    "problem, devices, path",
    [
        ("", [gpu("7.5")], "kernels"),
        (
            "",
            [gpu("6.1", 0)],
            "PyTorch reference: the GPU has compute capability 6.1, kernels need",
        ),
        ("", [gpu("8.9", 0)], "kernels do not start"),
        (OLD_DRIVER, [], None),
    ],
    ids=["runs", "old GPU", "fails", "old driver"],
)
def test_info_of_gpus(
    monkeypatch: pytest.MonkeyPatch, problem: str, devices: list[dict[str, Any]], path: str | None
) -> None:
    query = {"runtime": 13000, "driver": 12040, "problem": problem, "devices": devices}
    monkeypatch.setattr(native, "load", lambda: built(problem, query_cuda=lambda: query))
    figures = json.loads(CliRunner().invoke(app, ["info", "--json", "-"]).stdout)
    operations = figures["operations"]
    if path is None:
        assert f"which run nowhere here: {OLD_DRIVER}" in operations["uniform_conv2d"]
    else:
        assert figures["gpus"][0]["path"].startswith(path)
    assert operations["channel_histogram"].endswith("on GPUs PyTorch reference: no kernel yet")


def test_info_lists_what_kernels_do_not_take() -> None:
    text = CliRunner().invoke(app, ["info"]).stdout
    assert "What the CUDA kernels do not take" in text and "more than 256 levels" in text
    listed = json.loads(CliRunner().invoke(app, ["info", "--json", "-"]).stdout)["cuda_limits"]
    assert [row["not_taken"] for row in listed] == [limit.not_taken for limit in LIMITS]


def test_limits_name_real_operations() -> None:
    for limit in LIMITS:
        for name in limit.operations:
            assert name == EVERY or hasattr(ops, name) or hasattr(torch.ops.ptqsr, name), name


def test_operations_without_a_kernel_are_listed() -> None:
    def named(full: list[str]) -> set[str]:
        return {name.split("::")[1] for name in full if name.startswith("ptqsr::")}

    every = named(torch._C._dispatch_get_all_op_names())
    on_cuda = named(torch._C._dispatch_get_registrations_for_dispatch_key("CUDA"))
    assert every - on_cuda == set(WITHOUT_KERNEL)


def test_the_page_has_the_limits() -> None:
    table = re.search(r"<!-- limits -->\n(.*?)<!-- /limits -->", PAGE.read_text(), re.DOTALL)
    assert table is not None
    found = [line.strip("| ").split(" | ") for line in table[1].strip().splitlines()[2:]]
    assert found == [
        [
            ", ".join(name if name == EVERY else f"`{name}`" for name in limit.operations),
            limit.not_taken,
            limit.instead,
        ]
        for limit in LIMITS
    ]
