"""What `ptqsr calibrate` prints in the end."""

from __future__ import annotations

import logging
from math import log10
from typing import Any

from rich.table import Table

from ptqsr.config import Config
from ptqsr.evaluation import OUTPUT_SIZE, EvaluationResult, cost
from ptqsr.evaluation.units import bitops, parameters
from ptqsr.models import SRNetwork
from ptqsr.sensitivity import Choice

log = logging.getLogger("ptqsr")

MUCH = 1.0  # dB of held-out crops


def comparison(network: SRNetwork, quantized: SRNetwork) -> dict[str, Any]:
    """Return what both cost, and how many of the layers are quantized."""
    before, after = cost(network), cost(quantized)
    return {
        "layers": len(after.layers),
        "quantized_layers": sum(layer.quantized for layer in after.layers),
        **{
            what: {"full_precision": getattr(before, what), "quantized": getattr(after, what)}
            for what in ("bitops", "storage", "storage_bytes")
        },
    }


def prediction(
    choice: Choice | None, full: EvaluationResult | None, ours: EvaluationResult | None
) -> dict[str, Any] | None:
    """Return what was predicted of chosen bits beside what was measured."""
    if choice is None:
        return None
    measured = None
    if choice.in_db and full is not None and ours is not None:
        measured = full.psnr - ours.psnr
    return {
        "mean_bits": choice.mean_bits,
        "predicted_drop": choice.loss if choice.in_db else None,
        "measured_drop": measured,
        "predicted_mse": None if choice.in_db else choice.loss,
    }


def warn_of_loss(drop: float, config: Config) -> None:
    """Say where so much was lost that the method is at its end, and what there is to try."""
    if drop > MUCH:
        more = "more bits" if config.method == "dfsq+" else "--method dfsq+, or more bits"
        log.warning(f"{drop:.1f} dB are lost on held-out crops; try {more}")


def calibration_table(figures: dict[str, Any]) -> Table:
    model, scale, method = figures["model"], figures["scale"], figures["method"]
    mixed = figures["weight_bits"] is None
    bits = "mixed bits" if mixed else f"W{figures['weight_bits']}A{figures['act_bits']}"
    title = f"{model} x{scale}, {method}, {bits}"
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
    if picked := figures["chosen"]:
        table.add_row("mean bits, weighted by MACs", "32", f"{picked['mean_bits']:.3f}")
        if picked["measured_drop"] is not None:
            drops = [f"{picked[f'{what}_drop']:.3f} dB" for what in ("predicted", "measured")]
            table.add_row("PSNR drop, predicted and measured", "", " and ".join(drops))
        else:
            psnr_of = 10 * log10(255**2 / max(picked["predicted_mse"], 1e-9))
            table.add_row("PSNR, predicted from layers alone", "", f"{psnr_of:.3f} dB")
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
