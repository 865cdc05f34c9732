"""`ptqsr export`: networks as files for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ptqsr import checkpoint, exporting
from ptqsr.cli.networks import Scale, open_network
from ptqsr.cli.output import JsonFile, check_json, progress_bar, report
from ptqsr.errors import PtqsrError
from ptqsr.files import check_writable
from ptqsr.images import list_images


def export(
    name: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="Of `ptqsr calibrate`, a weight file, or a bundled name."
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", readable=False, help="The file to write: .onnx or .pt2."),
    ],
    format: Annotated[
        str | None,
        typer.Option(help="onnx or pt2 (a program of torch.export); by default as OUT ends."),
    ] = None,
    results: Annotated[
        str,
        typer.Option(
            help="int8: static layers hand 8 bits to shortcuts, too, which ONNX Runtime needs to "
            "convolve in integers; float: nothing is quantized that is not in the checkpoint."
        ),
    ] = "int8",
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of high-resolution pictures that show how far these results reach; by "
            "default scikit-learn's two."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="What the file's output must agree by with the network's, in dB."),
    ] = None,
    scale: Scale = None,
    json_file: JsonFile = None,
) -> None:
    """Write a network as ONNX or as a program of torch.export, for any batch, height and width.

    The file's output is compared with the network's on photographs at two sizes first.
    """
    check_json(json_file)
    check_writable(target)
    kind = exporting.format_of(target, format)
    if images is not None and (kind, results) != ("onnx", "int8"):
        raise PtqsrError("--images: is for results in 8 bits, of .onnx; leave it out")
    paths = None if images is None else list_images(images)
    network = open_network(name, scale)
    provenance: dict[str, Any] = {"source": Path(name).name}
    if checkpoint.is_checkpoint(name):
        provenance |= checkpoint.read(name)[0].get("provenance", {})
    try:
        with progress_bar() as show:
            made = exporting.export(
                network,
                target,
                format=format,
                results=results,
                pictures=None if paths is None else exporting.crops(network, paths),
                tolerance=tolerance,
                provenance=provenance,
                progress=show,
            )
    except PtqsrError as error:
        raise PtqsrError(f"{name}: {error}") from None
    report(_table(made), {"network": name, **made.to_json()}, json_file)


def _table(made: exporting.Export) -> Table:
    table = Table(title=f"{made.path}, {made.bytes / 1024:.0f} KiB", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    if made.format == "onnx":
        count = len(made.integer) + len(made.unfused) + len(made.floating)
        table.add_row("integer convolutions", f"{len(made.integer)} of {count} in ONNX Runtime")
        if made.unfused:
            said = f"{', '.join(made.unfused)}: no integer form there for what is read or given"
            table.add_row("quantized, but in floating point", said)
        if made.floating:
            said = f"{', '.join(made.floating)}: not quantized, or with scales of every picture"
            table.add_row("in floating point", said)
    if made.kernels:
        table.add_row("layers with results in 8 bits", str(len(made.quantized_results)))
        table.add_row("weights rounded again", f"{made.kernels_rounded} of {made.kernels} kernels")
    for check in made.checks:
        table.add_row(
            f"beside the network, {check.batch}x{check.height}x{check.width}",
            f"{check.psnr:.1f} dB, {check.max_abs:.2f} grey levels at most (asked for "
            f"{check.tolerance:.1f} dB; the file's roundings alone make {check.rounding:.1f} dB)",
        )
    return table
