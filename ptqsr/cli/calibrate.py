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
from ptqsr.cli.calibrate_table import calibration_table, prediction
from ptqsr.cli.crops import make_crops
from ptqsr.cli.device import Device, use_device
from ptqsr.cli.mixing import candidates_of, check_limits, chosen, plan_table, read_sensitivity
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
from ptqsr.errors import PtqsrError
from ptqsr.evaluation import cost, evaluate
from ptqsr.files import check_writable
from ptqsr.sensitivity import Choice, sensitivity


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
    selector: options.Selector = "kmeans",
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
            help="Of every block's reconstruction (brecq, qdrop, --reconstruct); 0: none."
        ),
    ] = 1000,
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
    for option, value, default, needs in (
        ("--selector", selector, "kmeans", ("dfsq",)),
        ("--universal-set", universal_set, None, ("dfsq", "dfsq+")),
        ("--percentile", percentile, 1.0, ("percentile",)),
        ("--reconstruct", reconstruct, False, ("dfsq+",)),
        ("--iterations", iterations, 1000, ("brecq", "qdrop", "dfsq+")),
    ):
        if value != default and method not in needs:
            given = option if value is True else f"{option} {value}"
            raise PtqsrError(f"{given}: is for --method {' or '.join(needs)}, not {method}")
    if iterations != 1000 and method == "dfsq+" and not reconstruct:
        raise PtqsrError(f"--iterations {iterations}: goes with --reconstruct")
    limited = check_limits(target_bits, max_drop)
    said = {"--bits": bits, "--weight-bits": weight_bits, "--act-bits": act_bits}
    patterns = {"--include": include, "--exclude": exclude, "--edges": edges}
    limits = {"--target-bits": target_bits, "--max-drop": max_drop}
    _alone("--plan", plan, {**said, **patterns, **limits})
    _alone("--target-bits" if max_drop is None else "--max-drop", limited or None, said)
    choosing = {"--candidates": candidates, "--sensitivity": sensitivity_file}
    for option, given_too in choosing.items():
        if given_too is not None and not limited:
            raise PtqsrError(f"{option}: goes with --target-bits or --max-drop")
    _alone("--sensitivity", sensitivity_file, {"--candidates": candidates})
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
        recipe = f"{method}_reconstructed" if reconstruct else method
        name = f"{network.title.lower()}_x{network.scale}_{recipe}_{_widths(config, limited)}"
        output = Path(f"{name if edges is None else f'{name}_edges{edges}'}.safetensors")
    _check_output(output)
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
    if limited:
        if sensitivity_file is not None:
            found = read_sensitivity(sensitivity_file, network, config)
        else:
            with progress_bar() as show:
                exact = replace(config, selector="optimal")  # k-means takes minutes at 6 bits
                found = sensitivity(
                    network, crops.inputs, crops.some_pairs(), exact, widths, progress=show
                )
        config, choice = chosen(network, config, found, target_bits, max_drop)
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
    before, after = cost(network), cost(quantized)
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
        "layers": len(after.layers),
        "quantized_layers": sum(layer.quantized for layer in after.layers),
        "held_out_crops": len(pairs),
        "psnr": {
            # Against the float network's own output the float network is exact.
            "full_precision": None if full is None or low_resolution else full.to_json()["psnr"],
            "quantized": None if ours is None else ours.to_json()["psnr"],
            "reference": "full-precision output" if low_resolution else "picture",
        },
        "bitops": {"full_precision": before.bitops, "quantized": after.bitops},
        "storage": {"full_precision": before.storage, "quantized": after.storage},
        "storage_bytes": {
            "full_precision": before.storage_bytes,
            "quantized": after.storage_bytes,
        },
        "reconstruction": list(quantized.reconstruction),
        "device": str(place),
        "calibration_seconds": round(calibration_seconds, 2),
        "seconds": round(time.perf_counter() - began, 2),
    }
    report(calibration_table(figures), figures, json_file)
    stderr.print(
        f"Written: {output}  (measure it: ptqsr evaluate {output} --data DIR)", soft_wrap=True
    )


def _alone(option: str, value: object, others: dict[str, Any]) -> None:
    """Raise PtqsrError where an option is given with one that it takes the place of."""
    given = [other for other, theirs in others.items() if theirs is not None]
    if value is not None and given:
        raise PtqsrError(f"{option}: says what {given[0]} would; leave that out")


def _widths(config: Config, limited: bool) -> str:
    mixed = limited or config.layers
    return "mixed" if mixed else f"w{config.weight_bits}a{config.act_bits}"


def _check_output(output: Path) -> None:
    """Say before the work that its result has no place, or the place of something else."""
    check_writable(output)
    if output.suffix != ".safetensors":
        raise PtqsrError(f"{output}: checkpoints are safetensors; name one with that ending")
    if output.exists() and not checkpoint.is_checkpoint(output):
        raise PtqsrError(f"{output}: exists and is no checkpoint of ptqsr; name another with -o")
