"""Peers compute the network that they are timed on: float32 to rounding, int8 to some steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ptqsr import models
from ptqsr.benchmarking import CANDIDATES, Task, measure, peers, task_of
from ptqsr.benchmarking.task import Unavailable

pytestmark = pytest.mark.usefixtures("one_thread")
INSTALL = 'needs pip install "ptqsr[peers]"'
# Half a step of 8 bits of the range, for every one of this network's few layers and then some.
STEPS = 12 / 255


@pytest.fixture
def task(tiny: models.SRNetwork) -> Task:
    return task_of(tiny, None, 16, 20)


@pytest.fixture
def wanted(task: Task) -> torch.Tensor:
    with torch.inference_mode():
        y: torch.Tensor = task.network()(task.input())
    return y


@pytest.fixture
def exported(task: Task, tmp_path: Path) -> Task:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=INSTALL)
    return replace(task, onnx=peers.export(task, tmp_path))


def check(got: Any, wanted: torch.Tensor, tolerance: float) -> None:
    difference = (torch.as_tensor(got) - wanted).abs()
    limit = tolerance * float(wanted.max() - wanted.min())
    assert difference.max() <= limit, f"worst at {divmod(int(difference.argmax()), 40)}"


def test_pytorch_int8(task: Task, wanted: torch.Tensor) -> None:
    if not hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        pytest.skip("this PyTorch has no quantized convolution of oneDNN")
    run = peers.pytorch(task)
    check(run(), wanted, STEPS)
    check(run(), wanted, STEPS)  # the residual is added in place: not into what is kept


@pytest.mark.parametrize("variant", [{"batch_norm": True}, {"res_scale": 0.5}])
def test_pytorch_int8_is_for_plain_edsr(variant: dict[str, Any]) -> None:
    network = models.build("edsr", scale=2, weights=None, blocks=1, width=8, **variant)
    with pytest.raises(Unavailable, match="EDSR"):
        peers.pytorch(task_of(network, None, 8, 8))


@pytest.mark.parametrize("form", peers.FORMS)
def test_onnxruntime(exported: Task, wanted: torch.Tensor, form: str) -> None:
    (got,) = peers.onnxruntime(form)(exported)()
    check(got, wanted, 1e-5 if form == "float32" else STEPS)


@pytest.mark.parametrize("form", peers.FORMS)
def test_openvino(exported: Task, wanted: torch.Tensor, form: str) -> None:
    pytest.importorskip("openvino", reason=INSTALL)
    run = peers.openvino(form)(exported)
    check(run(), wanted, 1e-5 if form == "float32" else STEPS)


def test_int8_is_where_it_should_be(exported: Task) -> None:
    """The convolutions that read codes: the four of the blocks, or all eight."""
    import onnx

    for form, count in (("float32", 0), ("int8", 4), ("all", 8)):
        graph = onnx.load(exported.onnx[form]).graph
        coded = {o for n in graph.node if n.op_type == "DequantizeLinear" for o in n.output}
        convs = [n for n in graph.node if n.op_type == "Conv"]
        assert sum(set(n.input[:2]) <= coded for n in convs) == count


def test_what_cannot_be_exported_says_so(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no such operator\nand a page about it")

    monkeypatch.setattr("ptqsr.benchmarking.peers.check", lambda *modules: None)
    monkeypatch.setattr("ptqsr.benchmarking.peers.write_static", fails)
    records = measure(task, [1], rounds=3, with_peers=True, with_memory=False)
    found = {record.candidate: record.unavailable for record in records}
    assert found["float32"] is None
    assert found["ONNX Runtime float32"] == "no such operator"
    assert found.keys() == CANDIDATES.keys() - {"fake-quantized", "deployed"}
