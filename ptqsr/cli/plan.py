"""`ptqsr plan`: what would be quantized, and why."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ptqsr import plan as plans
from ptqsr.cli import options
from ptqsr.cli.calibrate_options import alone
from ptqsr.cli.mixing import Limit, plan_table, read_sensitivity
from ptqsr.cli.networks import Settings, float_network
from ptqsr.cli.output import JsonFile, check_json, report, stderr
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.files import check_writable


def plan(
    model: options.Model = None,
    scale: options.NetworkScale = None,
    weights: options.Weights = "bundled",
    settings: Settings = None,
    bits: options.Bits = None,
    weight_bits: options.WeightBits = None,
    act_bits: options.ActBits = None,
    method: options.Method = "dfsq",
    include: options.Include = None,
    exclude: options.Exclude = None,
    edges: options.Edges = None,
    sensitivity: options.SensitivityFile = None,
    target_bits: options.TargetBits = None,
    max_drop: options.MaxDrop = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON file to write, for `ptqsr calibrate --plan`."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Say which layers are quantized, with how many bits, and why; write it down to edit it."""
    check_json(json_file)
    if output is not None:
        check_writable(output)
        if output.exists() and not plans.is_plan(output):
            raise PtqsrError(f"{output}: exists and is no plan; name another with -o")
    limit = Limit(target_bits, max_drop)
    if limit.option is None and sensitivity is not None:
        raise PtqsrError("--sensitivity: goes with --target-bits or --max-drop")
    if limit.option is not None:
        if sensitivity is None:
            raise PtqsrError(f"{limit.option}: needs --sensitivity, what to choose by")
        said = {"--bits": bits, "--weight-bits": weight_bits, "--act-bits": act_bits}
        alone(limit.option, True, said)
    config = Config(
        method=method,
        bits=4 if bits is None else bits,
        weight_bits=weight_bits,  # type: ignore[arg-type]
        act_bits=act_bits,  # type: ignore[arg-type]
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        edges=edges,
    )
    network, choice = float_network(model, scale, weights, settings), None
    if sensitivity is not None:
        measured = read_sensitivity(sensitivity, network, config)
        config, choice = limit.choose(network, config, measured)
    rows = plans.plan(network, config)
    if output is not None:
        plans.write(rows, output, network)
    title = f"{network.title} x{network.scale}"
    report(plan_table(rows, title, choice), [asdict(row) for row in rows], json_file)
    if output is not None:
        given = [
            ("--model", model),
            ("--scale", scale),
            ("--weights", None if weights == "bundled" else weights),
            *(("--set", setting) for setting in settings or ()),
            ("--method", None if method == "dfsq" else method),
            ("--plan", output),
        ]
        words = [str(word) for pair in given if pair[1] is not None for word in pair]
        stderr.print(
            f"Written: {output}  (use it: {shlex.join(['ptqsr', 'calibrate', *words])})",
            soft_wrap=True,
        )
