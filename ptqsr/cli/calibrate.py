"""`ptqsr calibrate`: the main job."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from rich.table import Table

from ptqsr import checkpoint, methods, models
from ptqsr.cli.device import Device, use_device
from ptqsr.cli.networks import Settings, hyperparameters
from ptqsr.cli.output import (
    JsonFile,
    bitops,
    check_json,
    parameters,
    progress_bar,
    report,
    stderr,
)
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.evaluation import OUTPUT_SIZE, cost, evaluate
from ptqsr.files import check_writable
from ptqsr.images import (
    cut,
    cut_held_out,
    downscale,
    list_images,
    sample_photographs,
    to_tensor,
    to_uint8,
)
from ptqsr.points import PRESETS

HELD_OUT = 16  # crops to measure on
TO_STOP = 8  # more of them, by which methods that learn stop

log = logging.getLogger("ptqsr")


def calibrate(
    model: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(models.ARCHITECTURES)}; by default as the weights."),
    ] = None,
    scale: Annotated[
        int | None, typer.Option(help="2, 3 or 4; by default the weights' or 4.")
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            help="bundled, official (the authors', fetched), or a .pt, .pth, .safetensors, .npz."
        ),
    ] = "bundled",
    settings: Settings = None,
    bits: Annotated[int, typer.Option(help="Bits of weights and activations, 2 to 8.")] = 4,
    weight_bits: Annotated[int | None, typer.Option(help="Bits of weights.")] = None,
    act_bits: Annotated[int | None, typer.Option(help="Bits of activations.")] = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(methods.METHODS)}.")] = "dfsq",
    percentile: Annotated[
        float, typer.Option(help="Cut off either tail, in per cent, by the method percentile.")
    ] = 1.0,
    universal_set: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(PRESETS)}, or a JSON file with a list of words.",
            show_default="dfsq-107; dfsq+ with 7 or 8 bits: int8",
        ),
    ] = None,
    selector: Annotated[
        str, typer.Option(help="kmeans (the paper's) or optimal (exact, and faster).")
    ] = "kmeans",
    include: Annotated[
        list[str] | None, typer.Option(help="Quantize these convolutions too (name pattern).")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Do not quantize these (name pattern).")
    ] = None,
    edges: Annotated[
        int | None,
        typer.Option(help="8: quantize head, upsampler, tail too, to 8 bits."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of high-resolution pictures; by default scikit-learn's two."),
    ] = None,
    low_resolution: Annotated[
        bool,
        typer.Option(help="The pictures are network inputs: do not shrink them first."),
    ] = False,
    num_images: Annotated[int, typer.Option(help="Calibration crops.")] = 32,
    patch_size: Annotated[int, typer.Option(help="Size of a crop in input pixels.")] = 48,
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
    seed: Annotated[int, typer.Option(help="Of crops, k-means and reconstruction.")] = 0,
    device: Device = "cpu",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Checkpoint to write.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Quantize a network after training, and say what it cost and what it saved."""
    began = time.perf_counter()
    if num_images < 1 or patch_size < 1:
        raise PtqsrError("--num-images and --patch-size must be at least 1")
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
    config = Config(
        method=method,
        bits=bits,
        weight_bits=bits if weight_bits is None else weight_bits,
        act_bits=bits if act_bits is None else act_bits,
        universal_set=cast(str, universal_set),
        selector=selector,
        percentile=percentile,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        seed=seed,
        edges=edges,
        reconstruct=reconstruct,
        iterations=iterations,
    )
    place = use_device(device)
    network = _network(model, scale, weights, hyperparameters(settings)).to(place)
    model = network.architecture
    if output is None:
        recipe = f"{method}_reconstructed" if reconstruct else method
        name = f"{model}_x{network.scale}_{recipe}_w{config.weight_bits}a{config.act_bits}"
        output = Path(f"{name if edges is None else f'{name}_edges{edges}'}.safetensors")
    _check_output(output)
    check_json(json_file)
    paths = sample_photographs() if images is None else list_images(images)
    factor = 1 if low_resolution else network.scale
    size = patch_size * factor
    crops, held_out = cut(paths, size=size, count=num_images, held_out=HELD_OUT, seed=seed)
    to_stop = _to_stop(paths, size, seed) if methods.learns(config) else []
    inputs, apart = (
        some if low_resolution else [downscale(crop, network.scale)[0] for crop in some]
        for some in (crops, to_stop)
    )
    with progress_bar() as show:
        start = time.perf_counter()
        quantized = methods.calibrate(
            network, inputs, config, held_out=apart or None, progress=show
        )
        calibration_seconds = time.perf_counter() - start
        pairs = _pairs(network, held_out, low_resolution)
        measured = {
            which: evaluate(net, pairs, progress=partial(show, f"PSNR, {which}")) if pairs else None
            for which, net in (("full precision", network), ("quantized", quantized))
        }
    provenance = {
        "weights": weights,
        "pictures": [path.name for path in paths[:1000]],
        "num_images": num_images,
        "patch_size": patch_size,
    }
    checkpoint.save(quantized, output, provenance=provenance)
    before, after = cost(network), cost(quantized)
    full, ours = measured["full precision"], measured["quantized"]
    figures: dict[str, Any] = {
        "checkpoint": str(output),
        "model": model,
        "scale": network.scale,
        "method": method,
        "weight_bits": config.weight_bits,
        "act_bits": config.act_bits,
        "edges": config.edges,
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
    report(_table(figures), figures, json_file)
    stderr.print(
        f"Written: {output}  (measure it: ptqsr evaluate {output} --data DIR)", soft_wrap=True
    )


def _network(
    model: str | None, scale: int | None, weights: str, settings: dict[str, Any]
) -> models.SRNetwork:
    if model is None and weights != "bundled":
        if weights == "official":
            raise PtqsrError("--weights official: say of which network with --model")
        if settings:
            raise PtqsrError("--set: say of which network with --model")
        return models.load(weights, scale=scale)
    return models.build(model or "edsr", scale=scale, weights=weights, **settings)


def _check_output(output: Path) -> None:
    """Say before the work that its result has no place, or the place of something else."""
    check_writable(output)
    if output.suffix != ".safetensors":
        raise PtqsrError(f"{output}: checkpoints are safetensors; name one with that ending")
    if output.exists() and not checkpoint.is_checkpoint(output):
        raise PtqsrError(f"{output}: exists and is no checkpoint of ptqsr; name another with -o")


def _to_stop(paths: list[Path], size: int, seed: int) -> list[np.ndarray]:
    crops = cut_held_out(paths, size=size, count=TO_STOP, seed=seed)
    if not crops:
        log.warning(
            "%s: too small to hold crops out; blocks stop by one in four of the calibration crops",
            paths[0].parent,
        )
    return crops


def _pairs(
    network: models.SRNetwork, crops: list[np.ndarray], low_resolution: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    if not low_resolution:
        return [downscale(crop, network.scale) for crop in crops]

    def reference(crop: np.ndarray) -> np.ndarray:
        made = to_uint8(network(to_tensor(crop).to(models.device_of(network))))[0]
        return made.permute(1, 2, 0).cpu().numpy()

    with torch.no_grad():
        return [(crop, reference(crop)) for crop in crops]


def _table(figures: dict[str, Any]) -> Table:
    model, scale, method = figures["model"], figures["scale"], figures["method"]
    title = f"{model} x{scale}, {method}, W{figures['weight_bits']}A{figures['act_bits']}"
    if figures["edges"] is not None:
        title += f", edges W{figures['edges']}A{figures['edges']}"
    table = Table(title=title)
    table.add_column("")
    table.add_column("full precision", justify="right")
    table.add_column("quantized", justify="right")

    def db(value: float | str | None) -> str:
        return (
            "-" if value is None else f"{value} dB" if isinstance(value, str) else f"{value:.3f} dB"
        )

    psnr, reference = figures["psnr"], figures["psnr"]["reference"]
    label = f"PSNR of {figures['held_out_crops']} held-out crops"
    if figures["held_out_crops"] == 0:
        label = "PSNR (pictures too small to hold any crop out)"
    elif reference != "picture":
        label += f", against the {reference}"
    table.add_row(label, db(psnr["full_precision"]), db(psnr["quantized"]))
    table.add_row("layers quantized", "0", f"{figures['quantized_layers']} of {figures['layers']}")
    rows = (
        (f"BitOPs for {OUTPUT_SIZE}", "bitops", bitops),
        ("storage, in float32 parameters", "storage", parameters),
        ("storage with steps and points", "storage_bytes", lambda b: f"{b / 1024:.0f} KiB"),
    )
    for name, key, text in rows:
        a, b = figures[key]["full_precision"], figures[key]["quantized"]
        table.add_row(name, text(a), f"{text(b)} ({b / a:.1%})")
    table.add_row("calibration", "", f"{figures['calibration_seconds']:.1f} s")
    table.add_row("everything", "", f"{figures['seconds']:.1f} s")
    return table
