"""`ptqsr evaluate`: networks side by side on standard pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ptqsr.cli.device import Device, use_device
from ptqsr.cli.networks import Deploy, Scale, deployed, open_network
from ptqsr.cli.output import JsonFile, bitops, check_json, parameters, progress_bar, report
from ptqsr.evaluation import OUTPUT_SIZE, cost
from ptqsr.evaluation import evaluate as measure
from ptqsr.evaluation.data import find_pairs


def evaluate(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT_OR_WEIGHTS...",
            help="Checkpoints of `ptqsr calibrate`, weight files, or bundled names as edsr_x4.",
        ),
    ],
    data: Annotated[
        list[Path],
        typer.Option(help="Folder with HR/ and LR/, or HR pictures alone; may be given again."),
    ],
    scale: Scale = None,
    deploy: Deploy = False,
    device: Device = "cpu",
    per_image: Annotated[bool, typer.Option(help="Show every picture.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Measure PSNR and SSIM on luma, BitOPs, storage and feature bits."""
    check_json(json_file)
    place = use_device(device)
    loaded = [(name, open_network(name, scale)) for name in networks]
    for _, network in loaded:
        for folder in data:
            find_pairs(folder, network.scale)  # a missing folder shows before the work
    records: list[dict[str, Any]] = []
    with progress_bar() as show:
        for name, network in loaded:
            spent = cost(network)
            running = deployed(name, network, place) if deploy else network.to(place)
            record: dict[str, Any] = {
                "network": name,
                "deployed": deploy,
                "device": str(place),
                "bitops": spent.bitops,
                "storage": spent.storage,
                "storage_bytes": spent.storage_bytes,
                "fqr": spent.fqr,
                "data": {},
            }
            for folder in data:
                title = f"{Path(name).name}, {folder.resolve().name}"
                result = measure(running, folder, progress=partial(show, title))
                record["data"][str(folder)] = result.to_json()
            records.append(record)
    report(_table(records, per_image), records, json_file)


def _table(records: list[dict[str, Any]], per_image: bool) -> Table:
    table = Table(
        caption=f"PSNR in dB, border of `scale` pixels cut; BitOPs for {OUTPUT_SIZE}; storage in "
        "float32 parameters, and with steps and points; FQR: mean bits of quantized features"
    )
    table.add_column("network")
    folders = list(records[0]["data"])
    for folder in folders:
        table.add_column(f"{Path(folder).resolve().name}\nPSNR / SSIM", justify="right")
    for title in ("BitOPs", "storage", "storage, all", "FQR"):
        table.add_column(title, justify="right")
    for record in records:
        cells = [_cell(record["data"][folder]) for folder in folders]
        costs = (
            bitops(record["bitops"]),
            parameters(record["storage"]),
            f"{record['storage_bytes'] / 1024:.0f} KiB",
            f"{record['fqr']:.2f}",
        )
        how = "\n(deployed)" if record["deployed"] else ""
        table.add_row(Path(record["network"]).name + how, *cells, *costs)
        if per_image:
            for i, folder in enumerate(folders):
                for image in record["data"][folder]["images"]:
                    row = [""] * len(folders)
                    row[i] = _cell(image)
                    table.add_row(f"  {Path(folder).resolve().name}/{image['name']}", *row)
    return table


def _cell(figures: dict[str, Any]) -> str:
    psnr, ssim = figures["psnr"], figures["ssim"]
    left = psnr if isinstance(psnr, str) else f"{psnr:.3f}"
    return f"{left} / {ssim if isinstance(ssim, str) else f'{ssim:.4f}'}"
