"""`ptqsr calibrate`: the main job."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ptqsr import checkpoint, methods, models
from ptqsr import plan as plans
from ptqsr.cli import options
from ptqsr.cli.calibrate_options import (
    ITERATIONS,
    check_bits_chosen,
    check_method,
    check_output,
    default_output,
)
from ptqsr.cli.calibrate_table import calibration_table, comparison, prediction, warn_of_loss
from ptqsr.cli.crops import make_crops
from ptqsr.cli.device import Device, use_device
from ptqsr.cli.mixing import (
    Limit,
    candidates_of,
    measure_sensitivity,
    plan_table,
    read_sensitivity,
)
from ptqsr.cli.networks import Settings, float_network
from ptqsr.cli.output import (
    JsonFile,
    check_json,
    progress_bar,
    report,
    stderr,
)
from ptqsr.cli.output import show as show_table
from ptqsr.cli.scaling import Engine, Workers, engine_of, gather_on
from ptqsr.config import Config
from ptqsr.evaluation import evaluate
from ptqsr.sensitivity import Choice


def calibrate(
    model: options.Model = None,
    scale: options.NetworkScale = None,
    weights: options.Weights = "bundled",
    settings: Settings = None,
    bits: options.Bits = None,
    weight_bits: options.WeightBits = None,
    act_bits: options.ActBits = None,
    plan: Annotated[
        Path | None,
        typer.Option(help="Quantize what this file of `ptqsr plan` says, as it says."),
    ] = None,
    target_bits: options.TargetBits = None,
    max_drop: options.MaxDrop = None,
    candidates: options.Candidates = None,
    sensitivity_file: options.SensitivityFile = None,
    method: options.Method = "dfsq",
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
    reconstruct: Annotated[
        bool,
        typer.Option("--reconstruct", help="End dfsq+ with block reconstruction: minutes more."),
    ] = False,
    iterations: Annotated[
        int,
        typer.Option(
            help="Of every block's reconstruction (brecq, qdrop, dfsq+ --reconstruct); with 0 "
            "brecq and qdrop round to nearest."
        ),
    ] = ITERATIONS,
    seed: options.Seed = 0,
    device: Device = "cpu",
    engine: Engine = "local",
    workers: Workers = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Checkpoint to write.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Quantize a network after training, and say what it cost and what it saved."""
    began = time.perf_counter()
    check_method(method, selector, universal_set, percentile, reconstruct, iterations)
    limit = Limit(target_bits, max_drop)
    check_bits_chosen(
        limit,
        plan,
        {"--bits": bits, "--weight-bits": weight_bits, "--act-bits": act_bits},
        {"--include": include, "--exclude": exclude, "--edges": edges},
        {"--candidates": candidates, "--sensitivity": sensitivity_file},
    )
    config = Config(
        method=method,
        bits=4 if bits is None else bits,
        weight_bits=weight_bits,  # type: ignore[arg-type]
        act_bits=act_bits,  # type: ignore[arg-type]
        universal_set=universal_set,
        selector=selector,
        percentile=percentile,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        seed=seed,
        edges=edges,
        reconstruct=reconstruct,
        iterations=iterations,
    )
    widths = candidates_of(candidates)
    ray = engine_of(engine, workers, device)
    place = use_device(device)
    network = float_network(model, scale, weights, settings).to(place)
    if plan is not None:
        config = replace(config, layers=plans.read(plan, network))
    if output is None:
        output = default_output(network, config, mixed=bool(limit.option or config.layers))
    check_output(output)
    check_json(json_file)
    crops = make_crops(
        images,
        network.scale,
        low_resolution=low_resolution,
        num_images=num_images,
        patch_size=patch_size,
        seed=seed,
        learns=methods.learns(config),
    )
    choice: Choice | None = None
    if limit.option:
        if sensitivity_file is not None:
            found = read_sensitivity(sensitivity_file, network, config)
        else:
            found = measure_sensitivity(network, config, crops, widths)
        config, choice = limit.choose(network, config, found)
    rows = plans.plan(network, config)
    if config.layers or network.architecture not in models.ARCHITECTURES:
        show_table(plan_table(rows, f"{network.title} x{network.scale}"))
    with progress_bar() as show:
        start = time.perf_counter()
        quantized = methods.calibrate(
            network,
            crops.inputs,
            config,
            held_out=crops.to_stop or None,
            progress=show,
            gather=gather_on(ray),
        )
        calibration_seconds = time.perf_counter() - start
        pairs = crops.pairs(network)
        measured = {
            which: evaluate(net, pairs, progress=partial(show, f"PSNR, {which}")) if pairs else None
            for which, net in (("full precision", network), ("quantized", quantized))
        }
    provenance = {
        "weights": weights,
        "pictures": crops.names,
        "num_images": len(crops.inputs),
        "patch_size": patch_size,
    }
    checkpoint.save(quantized, output, provenance=provenance)
    full, ours = measured["full precision"], measured["quantized"]
    figures: dict[str, Any] = {
        "checkpoint": str(output),
        "model": network.title,
        "scale": network.scale,
        "method": method,
        "weight_bits": None if config.layers else config.weight_bits,
        "act_bits": None if config.layers else config.act_bits,
        "edges": config.edges,
        "plan": [asdict(row) for row in rows],
        "chosen": prediction(choice, full, ours),
        "held_out_crops": len(pairs),
        "psnr": {
            # Against the float network's own output the float network is exact.
            "full_precision": None if full is None or low_resolution else full.to_json()["psnr"],
            "quantized": None if ours is None else ours.to_json()["psnr"],
            "reference": "full-precision output" if low_resolution else "picture",
        },
        **comparison(network, quantized),
        "reconstruction": list(quantized.reconstruction),
        "device": str(place),
        "calibration_seconds": round(calibration_seconds, 2),
        "seconds": round(time.perf_counter() - began, 2),
    }
    report(calibration_table(figures), figures, json_file)
    if full is not None and ours is not None and not low_resolution:
        warn_of_loss(full.psnr - ours.psnr, config)
    stderr.print(
        f"Written: {output}  (measure it: ptqsr evaluate {output} --data DIR)", soft_wrap=True
    )
