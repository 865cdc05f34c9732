"""How much DFSQ's gain over MinMax depends on which 16 crops were drawn: the authors' IMDN x4.

    python -m benchmarks.crops --data ../shared/data --imdn ../shared/weights/IMDN_x4.pth

MinMax' range is set by the largest value of all crops, so that its PSNR moves from draw to draw.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

import ptqsr
from benchmarks.timer import write
from ptqsr import Config, models
from ptqsr.evaluation import find_pairs, read_pairs
from ptqsr.images import cut, downscale, list_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imdn", type=Path, required=True)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    network = models.load(arguments.imdn)
    pairs = list(read_pairs(find_pairs(arguments.data / "Set5", 4), 4))
    paths = list_images(arguments.data / "train")
    rows = []
    for seed in range(arguments.seeds):
        crops, _ = cut(paths, size=192, count=16, held_out=0, seed=seed)
        inputs = [downscale(crop, 4)[0] for crop in crops]
        row: dict[str, float] = {"seed": seed}
        for name, config in {
            "minmax": Config(method="minmax", bits=arguments.bits),
            "kmeans": Config(bits=arguments.bits, selector="kmeans"),
            "optimal": Config(bits=arguments.bits, selector="optimal"),
        }.items():
            row[name] = ptqsr.evaluate(ptqsr.calibrate(network, inputs, config), pairs).psnr
        rows.append(row)
        print("  ".join(f"{name} {value:.3f}" for name, value in row.items()), flush=True)
    for selector in ("kmeans", "optimal"):
        gains = [row[selector] - row["minmax"] for row in rows]
        print(f"{selector}: gain {fmean(gains):.3f} dB [{min(gains):.3f}, {max(gains):.3f}]")
    write(arguments.json, rows)


if __name__ == "__main__":
    main()
