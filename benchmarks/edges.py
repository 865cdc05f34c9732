"""What 8-bit edges cost: W4A4 DFSQ (optimal) on Set5, x4, without and with `Config(edges=8)`.

    python -m benchmarks.edges --data ../shared/data --weights ../shared/weights

The networks and their calibration pictures are those of benchmarks.psnr; BitOPs and storage as
ptqsr.evaluation.cost counts them. Prints the table of docs/results.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ptqsr
from benchmarks.psnr import crops, sources
from benchmarks.timer import write
from ptqsr import Config
from ptqsr.evaluation import cost, find_pairs, read_pairs

BITS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--json", default="benchmarks/results/edges.json")
    arguments = parser.parse_args()
    pairs = list(read_pairs(find_pairs(arguments.data / "Set5", 4), 4))
    rows = []
    print("| network | edges | PSNR | SSIM | layers quantized | BitOPs | storage |")
    print("| --- " * 7 + "|")
    for network, (build, paths, count) in sources(arguments.data, arguments.weights).items():
        model, pictures = build(), crops(paths, count, 4)
        for edges in (None, 8):
            config = Config(bits=BITS, selector="optimal", edges=edges)
            quantized = ptqsr.calibrate(model, pictures, config)
            result, spent = ptqsr.evaluate(quantized, pairs), cost(quantized)
            row = {
                "network": network,
                "bits": BITS,
                "edges": edges,
                "psnr": round(result.psnr, 4),
                "ssim": round(result.ssim, 5),
                "quantized_layers": sum(layer.quantized for layer in spent.layers),
                "layers": len(spent.layers),
                "bitops": spent.bitops,
                "storage": spent.storage,
            }
            rows.append(row)
            print(line(row), flush=True)
    write(arguments.json, rows)


def line(row: dict) -> str:
    edges = "float" if row["edges"] is None else f"{row['edges']} bits"
    layers = f"{row['quantized_layers']} of {row['layers']}"
    quality = f"{row['psnr']:.3f} | {row['ssim']:.4f}"
    cost = f"{row['bitops'] / 1e12:.1f}T | {row['storage'] / 1e3:.1f}K"
    return f"| {row['network']} | {edges} | {quality} | {layers} | {cost} |"


if __name__ == "__main__":
    main()
