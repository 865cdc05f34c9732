"""What other runtimes make of the same network: peers to compare with, where installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ptqsr.benchmarking import onnx_int8
from ptqsr.benchmarking.onednn import Int8EDSR
from ptqsr.benchmarking.ours import inference
from ptqsr.benchmarking.task import Run, Task, Unavailable
from ptqsr.errors import one_line
from ptqsr.exporting import onnxruntime_session, write_static

INSTALL = 'pip install "ptqsr[peers]"'
EXPORTER = ("onnx", "onnxscript")
FORMS = ("float32", "int8", "all")


def check(*modules: str) -> None:
    """Raise Unavailable, with the command that installs it, where a package is missing."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise Unavailable(f"{', '.join(missing)} not installed: {INSTALL}")


def pytorch(task: Task) -> Run:
    """EDSR's blocks in int8 by PyTorch; the rest float32 in channels_last."""
    if not hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        raise Unavailable("this PyTorch was built without oneDNN's quantized convolution")
    torch.set_num_threads(task.threads)
    x = task.input().contiguous(memory_format=torch.channels_last)
    return inference(Int8EDSR(task.network(), x), x, task)


def onnxruntime(form: str) -> Callable[[Task], Run]:
    """Return a candidate: one of FORMS by ONNX Runtime."""

    def load(task: Task) -> Run:
        check(*EXPORTER, "onnxruntime")
        return onnxruntime_run(_file(task, form), task.input(), task.threads)

    return load


def openvino(form: str) -> Callable[[Task], Run]:
    """Return a candidate: one of FORMS by OpenVINO; ONNX Runtime's tool quantizes for it."""

    def load(task: Task) -> Run:
        check(*EXPORTER, "openvino", *([] if form == "float32" else ["onnxruntime"]))
        return openvino_run(_file(task, form), task.input(), task.threads)

    return load


def onnxruntime_run(path: str, x: torch.Tensor, threads: int) -> Run:
    """Return one inference of an ONNX file by ONNX Runtime."""
    session = onnxruntime_session(path, threads)
    inputs = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, inputs)


def openvino_run(path: str, x: torch.Tensor, threads: int, precision: str = "f32") -> Run:
    """Return one inference of an ONNX file by OpenVINO.

    `precision` is that of what is not int8: by itself it would take bf16 where the CPU has it.
    The output lies in memory of the function's own: it is valid until the next call.
    """
    import openvino as ov

    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
    picture = x.numpy()

    def run() -> Any:
        # Read where it is: the picture must live as long as the request, hence in here.
        request.set_input_tensor(ov.Tensor(picture, shared_memory=True))
        request.infer()
        return request.get_output_tensor().data

    return run


def export(task: Task, folder: Path) -> dict[str, str]:
    """Write the task's network in FORMS; return the files, or under its form why there is none.

    A reason begins with "!"; what other people's tools raise is a reason too.
    """
    files: dict[str, str] = {}
    x = task.input()
    for form in FORMS:
        path = folder / f"{form}.onnx"
        try:
            check(*EXPORTER, *([] if form == "float32" else ["onnxruntime"]))
            if form == "float32":
                write_static(task.network(), x, path)
            else:
                layers = task.layers if form == "int8" else None
                onnx_int8.quantize(folder / "float32.onnx", path, layers, x)
            files[form] = str(path)
        except Exception as error:
            files[form] = f"!{one_line(error)}"
    return files


def _file(task: Task, form: str) -> str:
    path = task.onnx.get(form, "!not exported")
    if path.startswith("!"):
        raise Unavailable(path[1:])
    return path
