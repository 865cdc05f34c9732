"""Export: a network as a file for other runtimes, verified before it appears."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ptqsr.errors import PtqsrError
from ptqsr.exporting import onnx_graph
from ptqsr.exporting.metadata import metadata_of
from ptqsr.exporting.onnx_graph import telling
from ptqsr.exporting.portable import check_exportable, is_static, portable, rounded_again
from ptqsr.exporting.ranges import crops, result_ranges
from ptqsr.exporting.roundings import Roundings
from ptqsr.exporting.runtimes import check_installed, convolutions, onnxruntime_session
from ptqsr.exporting.verify import Check, check, traced_input
from ptqsr.files import check_writable, replacing
from ptqsr.images import sample_photographs
from ptqsr.models import SRNetwork, evaluating

FORMATS = ("onnx", "pt2")
RESULTS = ("int8", "float")
STEPS = 4  # for progress


@dataclass(frozen=True)
class Export:
    """What was written, and how it compares.

    integer, unfused, floating: the convolutions of an ONNX file as ONNX Runtime runs them on this
    CPU: static ones in integers and in floating point, and all others. A layer that runs several
    times is several, with numbers. quantized_results: layers whose result has 8 bits in the file
    and is floating point in the network. kernels_rounded: of `kernels` of static layers, those
    whose weights were rounded again to be symmetric.
    """

    path: str
    format: str
    bytes: int
    checks: tuple[Check, ...]
    integer: tuple[str, ...] = ()
    unfused: tuple[str, ...] = ()
    floating: tuple[str, ...] = ()
    quantized_results: tuple[str, ...] = ()
    kernels: int = 0
    kernels_rounded: int = 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "checks": [each.to_json() for each in self.checks]}


def export(
    network: SRNetwork,
    path: str | Path,
    *,
    format: str | None = None,
    results: str = "int8",
    pictures: Iterable[Any] | None = None,
    tolerance: float | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Export:
    """Write a network, calibrated or not, for other runtimes, for any batch, height and width.

    format: "onnx", or "pt2", a program of torch.export in PyTorch's own operations; None: as the
    file's name ends. In ONNX static layers (MinMax, percentile, BRECQ, QDrop, PAMS, ODM) are
    QuantizeLinear, DequantizeLinear and weights in int8, which runtimes make integer convolutions
    of; DFSQ's are operations on float32 that compute the same.

    results: "int8" quantizes what static layers hand to float steps, as shortcuts are, to 8 bits of
    every channel's range, without which ONNX Runtime convolves in floating point there; "float"
    leaves it. `pictures` (as `calibrate` takes them; None: the sample photographs) show the ranges.

    The output is compared with the network's on photographs at two sizes (see `verify.check`, also
    for `tolerance`), and the file appears if that holds. `provenance`: JSON for its metadata. The
    network stays as it is. Raises PtqsrError where it has no such form, and where it differs.
    """
    path = Path(path)
    check_writable(path)
    kind = format_of(path, format)
    if results not in RESULTS:
        raise PtqsrError(f"results {results!r}: choose {' or '.join(RESULTS)}")
    check_exportable(network)
    if kind == "onnx":
        check_installed()
    metadata = metadata_of(network, provenance or {})
    with evaluating(network):
        progress("export", 0, STEPS)
        x = traced_input(network).cpu()
        program = onnx_graph.program_of(portable(network, onnx=kind == "onnx"), x)
        progress("export", 1, STEPS)
        if kind == "pt2":
            return _write_program(network, path, program, metadata, tolerance)
        model = onnx_graph.translate(program, x)
        progress("export", 2, STEPS)
        shown = crops(network, sample_photographs()) if pictures is None else pictures
        ranges = result_ranges(network, shown) if results == "int8" else {}
        levels = onnx_graph.finish(model, ranges)
        progress("export", 3, STEPS)
        roundings = Roundings(ranges, levels, symmetric=True)
        return _write_onnx(network, path, model, metadata, tolerance, roundings)


def format_of(path: Path, name: str | None) -> str:
    """Return the format of that name, or that the end of a file's name stands for."""
    found = path.suffix.lower().removeprefix(".") if name is None else name
    if found not in FORMATS:
        wanted = f"{path}: ends in neither .onnx nor .pt2" if name is None else f"format {name!r}"
        raise PtqsrError(f"{wanted}; choose the format: {' or '.join(FORMATS)}")
    return found


def _write_onnx(
    network: SRNetwork,
    path: Path,
    model: Any,
    metadata: Mapping[str, str],
    tolerance: float | None,
    roundings: Roundings,
) -> Export:
    """Write a finished ONNX model, and see what ONNX Runtime makes of its convolutions."""
    with replacing(path) as temporary, telling("the ONNX file is not sound"):
        onnx_graph.write(model, temporary, metadata)
        session = onnxruntime_session(temporary, torch.get_num_threads())

        def run(x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(session.run(None, {onnx_graph.PICTURE: x.numpy()})[0])

        checks = check(network, run, roundings, tolerance)
        integer, others = convolutions(temporary, dict(network.named_modules()))
    rounded, kernels = rounded_again(network)
    unfused = [name for name in others if is_static(network.get_submodule(name.partition("#")[0]))]
    return Export(
        path=str(path),
        format="onnx",
        bytes=path.stat().st_size,
        checks=tuple(checks),
        integer=tuple(integer),
        unfused=tuple(unfused),
        floating=tuple(name for name in others if name not in unfused),
        quantized_results=tuple(roundings.levels),
        kernels=kernels,
        kernels_rounded=rounded,
    )


def _write_program(
    network: SRNetwork,
    path: Path,
    program: torch.export.ExportedProgram,
    metadata: Mapping[str, str],
    tolerance: float | None,
) -> Export:
    """Write a program of torch.export; its metadata is the extra file `ptqsr.json`."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"ptqsr.json": json.dumps(metadata)})
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
        loaded = torch.export.load(io.BytesIO(temporary.read_bytes())).module()
        with torch.no_grad():
            checks = check(network, loaded, Roundings({}, {}, symmetric=False), tolerance)
    return Export(str(path), "pt2", path.stat().st_size, tuple(checks))
