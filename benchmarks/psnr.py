"""PSNR and SSIM of quantized networks on the standard pictures: README's table.

    python -m benchmarks.psnr --data ../shared/data --weights ../shared/weights

Networks: the bundled EDSR x4, calibrated as `ptqsr calibrate` does by default, and the authors'
IMDN, IDN and CARN-M x4, calibrated on 16 crops of 48x48 of the training pictures. Resumable: rows
that the result file holds already are not computed again. `--only` runs some networks, into a file
of their own, that several may run side by side; `--merge` adds such files' rows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import ptqsr
from benchmarks.timer import write
from ptqsr import Config, models
from ptqsr.evaluation import find_pairs, read_pairs
from ptqsr.images import cut, downscale, list_images, sample_photographs

SETS = ("Set5", "Set14", "BSD100")
BITS = (8, 6, 4, 3)
METHODS = {
    "MinMax": Config(method="minmax"),
    "percentile": Config(method="percentile"),
    "DFSQ, k-means": Config(method="dfsq", selector="kmeans"),
    "DFSQ, optimal": Config(method="dfsq", selector="optimal"),
    "dfsq+": Config(method="dfsq+"),
}
PATCH = 48
AUTHORS = {
    "IMDN x4 (authors')": "IMDN_x4.pth",
    "IDN x4 (authors', luma)": "idn_x4.npz",
    "CARN-M x4 (authors')": "carn_m.pth",
}
BUNDLED = "EDSR x4 (bundled)"


def crops(paths: list[Path], count: int, scale: int) -> list[np.ndarray]:
    pictures, _ = cut(paths, size=PATCH * scale, count=count, held_out=16, seed=0)
    return [downscale(picture, scale)[0] for picture in pictures]


def sources(
    data: Path, weights: Path
) -> dict[str, tuple[Callable[[], models.SRNetwork], list[Path], int]]:
    """Return how to build every network, its calibration pictures, and how many crops of them."""
    training = list_images(data / "train")
    networks: dict[str, tuple[Callable[[], models.SRNetwork], list[Path], int]] = {
        name: (partial(models.load, weights / file, scale=4), training, 16)
        for name, file in AUTHORS.items()
    }
    networks[BUNDLED] = (partial(models.build, "edsr", scale=4), sample_photographs(), 32)
    return networks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--only", default="", help="networks whose name begins so")
    parser.add_argument("--bits", type=int, nargs="+", default=BITS)
    parser.add_argument("--json", default="benchmarks/results/psnr.json")
    parser.add_argument("--merge", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    networks = sources(arguments.data, arguments.weights)
    pairs = {name: list(read_pairs(find_pairs(arguments.data / name, 4), 4)) for name in SETS}
    rows = []
    if Path(arguments.json).exists():
        rows = json.loads(Path(arguments.json).read_text())["figures"]
    for path in arguments.merge:
        rows += json.loads(path.read_text())["figures"]
    rows = list({(row["network"], row["method"], row["bits"]): row for row in rows}.values())
    done = {(row["network"], row["method"], row["bits"]) for row in rows}
    for network, (build, paths, count) in networks.items():
        if not network.startswith(arguments.only):
            continue
        model, pictures = build(), crops(paths, count, 4)
        for bits in (32, *arguments.bits):
            for method, config in METHODS.items() if bits < 32 else {"float": None}.items():
                if (network, method, bits) in done:
                    continue
                start = time.perf_counter()
                quantized = model
                if config is not None:
                    config = replace(config, bits=bits, weight_bits=bits, act_bits=bits)
                    quantized = ptqsr.calibrate(model, pictures, config)
                row = {"network": network, "method": method, "bits": bits}
                row["calibration_seconds"] = round(time.perf_counter() - start, 2)
                for name in SETS:
                    result = ptqsr.evaluate(quantized, pairs[name])
                    row[name] = {"psnr": round(result.psnr, 4), "ssim": round(result.ssim, 5)}
                rows.append(row)
                write(arguments.json, rows)
                print(line(row), flush=True)
    order = list(networks)
    rows.sort(key=lambda row: (order.index(row["network"]), -row["bits"]))
    write(arguments.json, rows)
    print(markdown(rows))


def line(row: dict) -> str:
    cells = " | ".join(f"{row[name]['psnr']:.3f} / {row[name]['ssim']:.4f}" for name in SETS)
    return f"| {row['network']} | {row['bits']} | {row['method']} | {cells} |"


def markdown(rows: list[dict]) -> str:
    head = f"| network | bits (W and A) | method | {' | '.join(SETS)} |"
    return "\n".join([head, "| --- " * (3 + len(SETS)) + "|", *(line(row) for row in rows)])


if __name__ == "__main__":
    main()
