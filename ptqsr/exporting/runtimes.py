"""Other runtimes, where installed: files run, and what became of their convolutions."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ptqsr.errors import PtqsrError
from ptqsr.exporting.graph import CONVOLUTIONS

INSTALL = 'pip install "ptqsr[onnx]"'
EXPORTER = ("onnx", "onnxscript", "onnxruntime")
INTEGER = ("QLinearConv", "ConvInteger")


def check_installed() -> None:
    """Raise PtqsrError, with the command that mends it, where ONNX files cannot be made."""
    missing = [name for name in EXPORTER if find_spec(name) is None]
    if missing:
        raise PtqsrError(f"{', '.join(missing)} not installed, which ONNX takes: {INSTALL}")


def overflows() -> bool:
    """Return whether ONNX Runtime adds up products of uint8 and int8 in 16 bits on this CPU.

    It does on x86 without VNNI; too few for 8 bits of weights, unless it is told to be precise.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    described = Path("/proc/cpuinfo")
    return described.exists() and "vnni" not in described.read_text()


def onnxruntime_session(path: str | Path, threads: int = 0, optimised: Path | None = None) -> Any:
    """Return ONNX Runtime's session of a file, on the CPU.

    threads: 0 for as many as there are cores. optimised: where to write what it made of the graph.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it says, it raises too
    # Its threads would otherwise spin on into what is timed or run next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if overflows():
        options.add_session_config_entry("session.x64quantprecision", "1")
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def convolutions(path: str | Path, layers: Collection[str]) -> tuple[list[str], list[str]]:
    """Return which layers of a file ONNX Runtime convolves in integers here, and the others."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        onnxruntime_session(path, optimised=optimised)
        made = {n.name.partition("_token_")[0]: n.op_type for n in onnx.load(optimised).graph.node}
    names = [node.name for node in onnx.load(path).graph.node if node.op_type in CONVOLUTIONS]
    names = [name for name in names if name.partition("#")[0] in layers]
    integer = [name for name in names if made.get(name) in INTEGER]
    return integer, [name for name in names if name not in integer]
