"""`ptqsr sensitivity`: what every layer loses at each bit-width."""

from __future__ import annotations

from rich.table import Table

from ptqsr.cli import options
from ptqsr.cli.calibrate_options import check_method
from ptqsr.cli.crops import make_crops
from ptqsr.cli.device import Device, use_device
from ptqsr.cli.mixing import candidates_of
from ptqsr.cli.networks import Settings, float_network
from ptqsr.cli.output import JsonFile, check_json, progress_bar, report
from ptqsr.config import Config
from ptqsr.sensitivity import Sensitivity
from ptqsr.sensitivity import sensitivity as measure


def sensitivity(
    model: options.Model = None,
    scale: options.NetworkScale = None,
    weights: options.Weights = "bundled",
    settings: Settings = None,
    method: options.Method = "dfsq",
    candidates: options.Candidates = None,
    percentile: options.Percentile = 1.0,
    universal_set: options.UniversalSet = None,
    selector: options.Selector = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    edges: options.Edges = None,
    images: options.Images = None,
    low_resolution: options.LowResolution = False,
    num_images: options.NumImages = None,
    patch_size: options.PatchSize = 48,
    seed: options.Seed = 0,
    device: Device = "cpu",
    json_file: JsonFile = None,
) -> None:
    """Measure what the network loses with one layer quantized alone, for each layer and bits."""
    check_json(json_file)
    check_method(method, selector, universal_set, percentile)
    widths = candidates_of(candidates)
    config = Config(
        method=method,
        percentile=percentile,
        universal_set=universal_set,
        selector=selector or "optimal",
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        seed=seed,
        edges=edges,
    )
    network = float_network(model, scale, weights, settings).to(use_device(device))
    crops = make_crops(
        images,
        network.scale,
        low_resolution=low_resolution,
        num_images=num_images,
        patch_size=patch_size,
        seed=seed,
    )
    pairs = crops.some_pairs()
    with progress_bar() as show:
        found = measure(network, crops.inputs, pairs, config, widths, progress=show)
    report(_table(found, len(pairs)), found.to_json(), json_file)


def _table(found: Sensitivity, crops: int) -> Table:
    widths = sorted({bits for row in found.layers for bits in row.losses})
    unit = "dB of PSNR" if found.in_db else "mean squared error, in squared grey levels"
    table = Table(
        title=f"{found.network}, {found.method}: loss with one layer quantized alone",
        caption=f"{unit}, on {crops} held-out crops",
    )
    table.add_column("layer", overflow="fold")
    table.add_column("share of MACs", justify="right")
    for bits in widths:
        table.add_column(f"{bits} bits", justify="right")
    macs = sum(row.macs for row in found.layers)
    for row in found.layers:
        cells = [
            "" if (loss := row.losses.get(bits)) is None
            else f"{loss.mse if loss.drop is None else loss.drop:.3g}"
            for bits in widths
        ]  # fmt: skip
        table.add_row(row.name, f"{row.macs / macs:.1%}", *cells)
    return table
