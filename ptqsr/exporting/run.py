"""Export: a network as a file for other runtimes, verified before it appears."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import ptqsr
from ptqsr.errors import PtqsrError
from ptqsr.exporting import onnx_graph
from ptqsr.exporting.portable import check_exportable, portable, rounded_again
from ptqsr.exporting.ranges import result_ranges
from ptqsr.exporting.roundings import Roundings
from ptqsr.exporting.runtimes import check_installed, convolutions, onnxruntime_session
from ptqsr.exporting.verify import Check, check, traced_input
from ptqsr.files import check_writable, replacing
from ptqsr.images import cut, downscale, sample_photographs
from ptqsr.models import SRNetwork, evaluating
from ptqsr.modules import FakeQuantConv2d

FORMATS = ("onnx", "pt2")
RESULTS = ("int8", "float")
# Of the pictures that show how far results reach: as `ptqsr calibrate` cuts them by default.
CROPS, CROP_SIZE = 32, 48


@dataclass(frozen=True)
class Export:
    """What was written, and how it compares.

    integer, floating: the convolutions of an ONNX file as ONNX Runtime runs them on this CPU.
    quantized_results: layers whose result has 8 bits in the file and is floating point in the
    network. kernels_rounded: of `kernels` of static layers, those whose weights were rounded again
    to be symmetric.
    """

    path: str
    format: str
    bytes: int
    integer: tuple[str, ...]
    floating: tuple[str, ...]
    quantized_results: tuple[str, ...]
    kernels: int
    kernels_rounded: int
    checks: tuple[Check, ...]

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
    kind = _format(path, format)
    if results not in RESULTS:
        raise PtqsrError(f"results {results!r}: choose {' or '.join(RESULTS)}")
    check_exportable(network)
    if kind == "onnx":
        check_installed()
    with evaluating(network):
        x = traced_input(network)
        program = onnx_graph.program_of(portable(network, onnx=kind == "onnx"), x.cpu())
        metadata = _metadata(network, provenance or {})
        if kind == "pt2":
            return _write_program(network, path, program, metadata, tolerance)
        model = onnx_graph.translate(program, x.cpu())
        shown = _crops(network) if pictures is None else pictures
        ranges = result_ranges(network, shown) if results == "int8" else {}
        levels = onnx_graph.finish(model, ranges)
        roundings = Roundings(ranges, levels, symmetric=True)
        with replacing(path) as temporary:
            onnx_graph.write(model, temporary, metadata)
            session = onnxruntime_session(temporary, torch.get_num_threads())

            def run(x: torch.Tensor) -> torch.Tensor:
                return torch.from_numpy(session.run(None, {onnx_graph.PICTURE: x.numpy()})[0])

            checks = check(network, run, roundings, tolerance)
            integer, floating = convolutions(temporary, dict(network.named_modules()))
            size = temporary.stat().st_size
    rounded, kernels = rounded_again(network)
    return Export(
        path=str(path),
        format=kind,
        bytes=size,
        integer=tuple(integer),
        floating=tuple(floating),
        quantized_results=tuple(levels),
        kernels=kernels,
        kernels_rounded=rounded,
        checks=tuple(checks),
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
    return Export(str(path), "pt2", path.stat().st_size, (), (), (), 0, 0, tuple(checks))


def _format(path: Path, name: str | None) -> str:
    found = path.suffix.lower().removeprefix(".") if name is None else name
    if found not in FORMATS:
        wanted = f"{path}: ends in neither .onnx nor .pt2" if name is None else f"format {name!r}"
        raise PtqsrError(f"{wanted}; choose the format: {' or '.join(FORMATS)}")
    return found


def _crops(network: SRNetwork) -> list[Any]:
    size = CROP_SIZE * network.scale
    crops, _ = cut(sample_photographs(), size=size, count=CROPS, held_out=0, seed=0)
    return [downscale(crop, network.scale)[0] for crop in crops]


def _metadata(network: SRNetwork, provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return what a reader of the file should know, as texts, all but names and numbers JSON."""
    config = network.calibration
    layers = {
        name: {
            "kind": module.quantizer.kind,
            "weight_bits": module.weight_bits,
            "act_bits": module.act_bits,
        }
        for name, module in network.named_modules()
        if isinstance(module, FakeQuantConv2d)
    }
    found = {
        "ptqsr": ptqsr.__version__,
        "architecture": network.architecture,
        "scale": str(network.scale),
        "colours": network.colours,
        "hyperparameters": json.dumps(network.hyperparameters),
        "provenance": json.dumps(dict(provenance)),
    }
    if config is not None:
        found |= {
            "method": config.method,
            "weight_bits": str(config.weight_bits),
            "act_bits": str(config.act_bits),
            "config": config.to_json(),
            "layers": json.dumps(layers),
        }
    return found
