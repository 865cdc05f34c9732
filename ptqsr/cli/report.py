"""`ptqsr report`: a page that shows what quantization did."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ptqsr import reporting
from ptqsr.cli.device import Device, use_device
from ptqsr.cli.networks import Patches, PatchOverlap
from ptqsr.cli.output import JsonFile, check_json, progress_bar, report, stderr
from ptqsr.errors import PtqsrError
from ptqsr.evaluation.units import bitops
from ptqsr.files import check_folder, check_writable
from ptqsr.models import PatchWise, patchwise
from ptqsr.quantizers import choosers
from ptqsr.reporting.figures import check_figures, write_figures

SUFFIXES = (".html", ".htm")


def make_report(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            metavar="CHECKPOINT...",
            readable=False,  # not checked: our own error is one line
            help="Of `ptqsr calibrate` or `finetune`; several are shown side by side.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page to write, .html.")
    ] = Path("report.html"),
    weights: Annotated[
        str | None,
        typer.Option(
            help="The float network to compare with: bundled, official, or a file; by default what "
            "the checkpoint was made from."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with HR/ and LR/, or HR pictures alone; by default scikit-learn's two."
        ),
    ] = None,
    pictures: Annotated[int, typer.Option(help="Of --data, the first so many.")] = 8,
    crops: Annotated[int, typer.Option(help="Crops of them, for all about layers.")] = 8,
    crop_size: Annotated[int, typer.Option(help="Of a crop, in input pixels.")] = 48,
    patches: Patches = None,
    patch_overlap: PatchOverlap = None,
    latency: Annotated[bool, typer.Option(help="Time the networks, too.")] = True,
    device: Device = "cpu",
    figures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help='Write the charts as PNG, too; needs "ptqsr\\[chart]".'),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the crops.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Write one HTML page: which layer costs most, distributions, points, weights, pictures.

    It holds everything it shows, and opens from disk. PSNR is of whole pictures; layers are
    measured on crops.
    """
    began = time.perf_counter()
    check_json(json_file)
    check_writable(output)
    if output.suffix.lower() not in SUFFIXES:
        raise PtqsrError(f"{output}: a report is a page; name one with {SUFFIXES[0]} at its end")
    if figures is not None:
        check_folder(figures)
        check_figures()
    for option, value in (("--pictures", pictures), ("--crops", crops), ("--crop-size", crop_size)):
        if value < 1:
            raise PtqsrError(f"{option} {value}: must be at least 1")
    if not 0 <= seed < 1 << 32:
        raise PtqsrError(f"--seed {seed}: must be a whole number from 0 to 2^32 - 1")
    size = patchwise.PATCH if patches is None else patches
    overlap = patchwise.OVERLAP if patch_overlap is None else patch_overlap
    place = use_device(device)
    subjects = [
        reporting.open_subject(path, weights, place, patches=size, overlap=overlap)
        for path in checkpoints
    ]
    choosing = [subject.quantized for subject in subjects if choosers(subject.quantized)]
    if choosing:
        PatchWise(choosing[0], patch=size, overlap=overlap)  # wrong sizes show before the work
    elif patches is not None or patch_overlap is not None:
        option = "--patches" if patches is not None else "--patch-overlap"
        raise PtqsrError(f"{option}: is for networks whose layers choose their bits (CADyQ)")
    scale = subjects[0].quantized.scale
    taken = (
        reporting.bundled_pictures(scale)
        if data is None
        else reporting.pictures_in(data, scale, pictures)
    )
    with progress_bar() as show:
        made = reporting.make_report(
            subjects,
            taken,
            crops=crops,
            crop_size=crop_size,
            seed=seed,
            with_latency=latency,
            progress=show,
        )
        written = reporting.write_page(made, output)
        if figures is not None:
            write_figures(made, figures, lambda done, total: show("figures", done, total))
    seconds = time.perf_counter() - began
    records = reporting.records(made)
    report(
        _table(records),
        {
            "report": str(output),
            "bytes": written,
            "seconds": round(seconds, 2),
            "pictures": made.pictures,
            "device": str(place),
            "networks": records,
        },
        json_file,
    )
    stderr.print(f"Written: {output}  ({written / 1e6:.2f} MB, {seconds:.1f} s)", soft_wrap=True)


def _table(records: list[dict[str, Any]]) -> Table:
    table = Table(caption="cost: a layer's part in the error of all, each quantized alone")
    table.add_column("network")
    for title in ("PSNR, float", "PSNR", "BitOPs", "costs most", "cost"):
        table.add_column(title, justify="right")
    for record in records:
        worst = record["layers"][0]
        table.add_row(
            record["network"],
            *(
                value if isinstance(value, str) else f"{value:.3f} dB"
                for value in (record["psnr"]["float"], record["psnr"]["quantized"])
            ),
            bitops(record["bitops"]["quantized"]),
            worst["layer"],
            f"{worst['share_of_error']:.1%}",
        )
    return table
