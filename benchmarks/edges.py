"""What 8-bit edges cost: W4A4 DFSQ (optimal) on Set5, x4, without and with `Config(edges=8)`.

    python -m benchmarks.edges --data ../shared/data --weights ../shared/weights

The networks and their calibration pictures are those of benchmarks.tables; BitOPs and storage as
ptqsr.evaluation.cost counts them. Prints the table of docs/results.md.
"""

from __future__ import annotations

import argparse

import ptqsr
from benchmarks.tables import networks
from benchmarks.tables.results import Row, cell, markdown_table
from benchmarks.timer import write
from ptqsr import Config
from ptqsr.evaluation import cost

BITS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    networks.add_arguments(parser)
    parser.add_argument("--json", default="benchmarks/results/edges.json")
    arguments = parser.parse_args()
    pairs = networks.pairs(arguments.data, "Set5", 4)
    rows = []
    for network in networks.available(arguments.weights, scales=(4,)):
        model, pictures = network.build(arguments.weights), network.crops(arguments.data)
        for edges in (None, 8):
            config = Config(bits=BITS, selector="optimal", edges=edges)
            quantized = ptqsr.calibrate(model, pictures, config)
            spent = cost(quantized)
            row = {
                "network": network.name,
                "bits": BITS,
                "edges": edges,
                **cell(quantized, pairs),
                "quantized_layers": sum(layer.quantized for layer in spent.layers),
                "layers": len(spent.layers),
                "bitops": spent.bitops,
                "storage": spent.storage,
            }
            rows.append(row)
            print(" | ".join(line(row)), flush=True)
    write(arguments.json, rows)
    print(markdown(rows))


def markdown(rows: list[Row]) -> str:
    """Return the table of docs/results.md."""
    heads = ("network", "edges", "PSNR", "SSIM", "layers quantized", "BitOPs", "storage")
    return markdown_table(heads, map(line, rows))


def line(row: Row) -> list[str]:
    edges = "float" if row["edges"] is None else f"{row['edges']} bits"
    layers = f"{row['quantized_layers']} of {row['layers']}"
    quality = [f"{row['psnr']:.3f}", f"{row['ssim']:.4f}"]
    spent = [f"{row['bitops'] / 1e12:.1f}T", f"{row['storage'] / 1e3:.1f}K"]
    return [row["network"], edges, *quality, layers, *spent]


if __name__ == "__main__":
    main()
