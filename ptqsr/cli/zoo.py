"""`ptqsr models`: the zoo."""

from __future__ import annotations

import json
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from ptqsr import models
from ptqsr.cli.output import JsonFile, check_json, report
from ptqsr.evaluation import OUTPUT_SIZE, cost
from ptqsr.evaluation.units import bitops, parameters
from ptqsr.models.official import ELSEWHERE
from ptqsr.models.registry import check
from ptqsr.modules import quantizable


def list_models(
    scale: Annotated[int, typer.Option(help="2, 3 or 4.")] = models.DEFAULT_SCALE,
    json_file: JsonFile = None,
) -> None:
    """List the networks: size, work, what is quantized, where weights come from."""
    check_json(json_file)
    records: list[dict[str, Any]] = []
    for name, row in models.ARCHITECTURES.items():
        check(name, scale)
        for title, variant in {row.title: {}, **row.variants}.items():
            with torch.device("meta"):
                network = models.build(name, scale=scale, weights=None, **variant)
            spent = cost(network)
            official = None if variant else models.OFFICIAL.get((name, scale))
            records.append(
                {
                    "model": name,
                    "set": dict(variant),
                    "title": title,
                    "scale": scale,
                    "parameters": int(spent.storage),
                    "macs": spent.macs,
                    "bitops": spent.bitops,
                    "quantized_layers": len(quantizable(network)),
                    "layers": len(spent.layers),
                    "quantized": list(network.quantized_layers),
                    "bundled": not variant and f"{name}_x{scale}" in models.bundled(),
                    "official": official.url if official else None,
                    "elsewhere": None if official or variant else ELSEWHERE.get(name),
                }
            )
    report(_table(records), records, json_file)


def _table(records: list[dict[str, Any]]) -> Table:
    table = Table(
        title=f"x{records[0]['scale']}",
        caption=f"MACs and BitOPs in float32 for {OUTPUT_SIZE}; what is quantized: name patterns",
        show_lines=True,
    )
    for title in ("--model", "parameters", "MACs", "BitOPs", "quantized", "weights"):
        right = title in ("parameters", "MACs", "BitOPs")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for record in records:
        options = [f"--set {key}={json.dumps(value)}" for key, value in record["set"].items()]
        weights = ["bundled"] if record["bundled"] else []
        weights += [f"official: {record['official']}"] if record["official"] else []
        weights += [record["elsewhere"]] if record["elsewhere"] else []
        table.add_row(
            "\n".join([record["model"], *options, record["title"]]),
            parameters(record["parameters"]),
            bitops(record["macs"]),
            bitops(record["bitops"]),
            f"{record['quantized_layers']} of {record['layers']}: {' '.join(record['quantized'])}",
            "\n".join(weights),
        )
    return table
