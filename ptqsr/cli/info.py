"""`ptqsr info`: what was built, what was found, and how a network would run on it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Group
from rich.table import Table

import ptqsr
from ptqsr import deployment, models, native
from ptqsr.cli.networks import open_network
from ptqsr.cli.output import JsonFile, check_json, report
from ptqsr.errors import PtqsrError
from ptqsr.ops.cuda.limits import LIMITS, WITHOUT_KERNEL

OPERATIONS = (
    *("subset_fake_quant", "subset_encode", "subset_conv2d"),
    *("uniform_fake_quant", "uniform_encode", "uniform_conv2d"),
    "channel_histogram",
)


def info(
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="[CHECKPOINT]",
            help="Of `ptqsr calibrate`: say how --deploy runs it, layer by layer, and why.",
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Say what was built and found on this machine, or how a quantized network runs on it."""
    check_json(json_file)
    if network is not None:
        _show_plan(network, json_file)
        return
    described = native.describe()
    figures: dict[str, Any] = {
        "ptqsr": ptqsr.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "bundled_weights": models.bundled(),
        **described.to_json(),
        "operations": {name: _path(described, name) for name in OPERATIONS},
        "cuda_limits": [asdict(limit) for limit in LIMITS],
    }
    table = Table(title="ptqsr", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in figures.items():
        if name == "operations":
            value = _by_path(value)
        if name != "cuda_limits":
            table.add_row(name.replace("_", " "), _text(value))
    report(Group(table, _limits()), figures, json_file)


def _path(described: native.Description, operation: str) -> str:
    """Return which code runs an operation."""
    if operation in WITHOUT_KERNEL:
        return described.path_with("PyTorch reference: no kernel yet")
    return described.path


def _by_path(operations: dict[str, str]) -> dict[str, str]:
    """Return the same for reading: operations that the same code runs together."""
    names: dict[str, list[str]] = {}
    for operation, path in operations.items():
        names.setdefault(path, []).append(operation)
    return {" and ".join(several): path for path, several in names.items()}


def _limits() -> Table:
    table = Table(title="What the CUDA kernels do not take")
    for title in ("operations", "not taken", "instead"):
        table.add_column(title, overflow="fold")
    for limit in LIMITS:
        table.add_row(", ".join(limit.operations), limit.not_taken, limit.instead)
    return table


def _show_plan(name: str, json_file: str | None) -> None:
    network = open_network(name)
    try:
        plan = deployment.plan(network)
    except PtqsrError as error:
        raise PtqsrError(f"{name}: {error}") from None
    path = native.describe().path
    figures = {
        "network": name,
        "architecture": network.title,
        "scale": network.scale,
        "path": path,
        "layers": deployment.describe(plan),
        "other_steps": deployment.other_steps(plan),
        "not_traced": plan.reason,
    }
    more = f"; besides them {figures['other_steps']} steps of PyTorch"
    why = f"; not traced ({plan.reason}): nothing is fused" if plan.reason else more
    table = Table(title=f"{Path(name).name} with --deploy", caption=f"integers: {path}{why}")
    for title in ("layer", "shape", "how", "bits", "fused", "statistics", "remark"):
        table.add_column(title, overflow="fold")
    for row in deployment.describe(plan):
        bits = f"W{row['weight_bits']} A{row['act_bits']}" if row["act_bits"] else ""
        table.add_row(
            row["layer"],
            row["shape"] or "",
            row["how"],
            bits,
            ", ".join(row["fused"]),
            "given" if row["statistics"] else "",
            row["remark"],
        )
    report(table, figures, json_file)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(part) for part in value) or "none"
    return "none" if value is None else str(value)
