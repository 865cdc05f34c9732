"""`ptqsr evaluate`: networks side by side on standard pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ptqsr import models
from ptqsr.cli.device import Device
from ptqsr.cli.networks import Deploy, Patches, PatchOverlap, Running, Scale, open_network
from ptqsr.cli.output import JsonFile, check_json, progress_bar, report
from ptqsr.cli.scaling import Engine, Workers, engine_of
from ptqsr.errors import PtqsrError
from ptqsr.evaluation import (
    OUTPUT_SIZE,
    EvaluationResult,
    bitops_of,
    cost,
    draw_bits,
    fewest_and_most,
    mean_bits,
    recording_bits,
)
from ptqsr.evaluation import evaluate as measure
from ptqsr.evaluation.data import find_pairs
from ptqsr.evaluation.quality import super_resolve_luma
from ptqsr.evaluation.units import bitops, parameters
from ptqsr.files import check_writable
from ptqsr.images import check_format
from ptqsr.models import PatchWise, SRNetwork, evaluating
from ptqsr.quantizers import choosers


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
    patches: Patches = None,
    patch_overlap: PatchOverlap = None,
    bit_map: Annotated[
        Path | None,
        typer.Option(
            help="Draw the bits that patches and layers choose (CADyQ), of the first picture; of "
            "one network."
        ),
    ] = None,
    per_image: Annotated[bool, typer.Option(help="Show every picture.")] = False,
    engine: Engine = "local",
    workers: Workers = None,
    json_file: JsonFile = None,
) -> None:
    """Measure PSNR and SSIM on luma, BitOPs, storage and feature bits."""
    check_json(json_file)
    if bit_map is not None:
        check_format(bit_map)
        check_writable(bit_map)
    ray = engine_of(engine, workers, device)
    loaded = [(name, open_network(name, scale)) for name in networks]
    ways = [Running(name, device, deploy, True, patches, patch_overlap) for name in networks]
    if bit_map is not None and ray is not None:
        raise PtqsrError("--bit-map: is drawn in this process; leave out --engine ray")
    for way, (_, network) in zip(ways, loaded, strict=True):
        way.by_patches(network)  # wrong sizes show before the work
        if bit_map is not None and (len(loaded) > 1 or not choosers(network)):
            raise PtqsrError("--bit-map: give one network alone, whose layers choose their bits")
    for _, network in loaded:
        for folder in data:
            find_pairs(folder, network.scale)  # a missing folder shows before the work
    records: list[dict[str, Any]] = []
    with progress_bar() as show:
        for way, (name, network) in zip(ways, loaded, strict=True):
            running = way(network) if ray is None else way.by_patches(network)
            results: dict[str, EvaluationResult] = {}
            for folder in data:
                step = partial(show, f"{Path(name).name}, {folder.resolve().name}")
                if ray is None:
                    results[str(folder)] = measure(running, folder, progress=step)
                else:
                    from ptqsr import cluster

                    pairs = find_pairs(folder, network.scale)
                    results[str(folder)] = cluster.evaluate(ray, partial(way, network), pairs, step)
            images = tuple(image for result in results.values() for image in result.images)
            chosen = EvaluationResult(images).chosen
            spent = cost(network, chosen=chosen)
            record: dict[str, Any] = {
                "network": name,
                "deployed": deploy,
                "device": str(models.device_of(running)) if ray is None else device,
                "bitops": bitops_of(spent, running),
                "storage": spent.storage,
                "storage_bytes": spent.storage_bytes,
                "fqr": spent.fqr,
                "data": {folder: result.to_json() for folder, result in results.items()},
            }
            if chosen:
                record["layer_bits"] = mean_bits(chosen)
            if isinstance(running, PatchWise):
                record["patches"] = {"size": running.patch, "overlap": running.overlap}
            records.append(record)
            if bit_map is not None:
                _draw(bit_map, running, data[0])
    report(_table(records, per_image), records, json_file)


def _draw(path: Path, running: SRNetwork, folder: Path) -> None:
    """Draw what is chosen for the first picture of a folder."""
    pair = find_pairs(folder, running.scale)[0]
    lr, _ = pair.read(running.scale)
    with recording_bits(running) as chosen, evaluating(running):
        super_resolve_luma(running, lr, pair.name)
    by = running if isinstance(running, PatchWise) else None
    draw_bits(path, lr, chosen, fewest_and_most(running), by)


def _table(records: list[dict[str, Any]], per_image: bool) -> Table:
    table = Table(
        caption=f"PSNR in dB, border of `scale` pixels cut; BitOPs for {OUTPUT_SIZE}; storage in "
        "float32 parameters, and with steps and points; FQR: mean bits of quantized features"
    )
    table.add_column("network", overflow="fold")
    folders = list(records[0]["data"])
    for folder in folders:
        table.add_column(f"{Path(folder).resolve().name}\nPSNR / SSIM", justify="right")
    for title in ("BitOPs", "storage", "storage, all", "FQR"):
        table.add_column(title, justify="right")
    shown = [Path(record["network"]).name for record in records]
    if len(set(shown)) < len(shown):  # as of several runs of `finetune`
        shown = [record["network"] for record in records]
    for record, name in zip(records, shown, strict=True):
        cells = [_cell(record["data"][folder]) for folder in folders]
        costs = (
            bitops(record["bitops"]),
            parameters(record["storage"]),
            f"{record['storage_bytes'] / 1024:.0f} KiB",
            f"{record['fqr']:.2f}",
        )
        how = "\n(deployed)" if record["deployed"] else ""
        if "patches" in record:
            how += "\n(patches of {size}, overlap {overlap})".format(**record["patches"])
        table.add_row(name + how, *cells, *costs)
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
