"""PSNR of deployed networks beside the simulated ones, on Set5: contract 4 of the design.

    python -m benchmarks.deployed --data ../shared/data --weights ../shared/weights

The networks, their calibration pictures and the measure are those of benchmarks/psnr.py. The
contract: within 0.02 dB with weights of up to 6 bits, 0.05 dB at 8. Exits with 1 where it is broken.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

import ptqsr
from benchmarks.psnr import AUTHORS, BUNDLED, METHODS, crops
from benchmarks.timer import write
from ptqsr import models
from ptqsr.evaluation import find_pairs, read_pairs
from ptqsr.images import list_images, sample_photographs

ROWS = [("DFSQ, optimal", bits) for bits in (8, 6, 4, 3)] + [("MinMax", 8), ("MinMax", 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--edges", type=int, default=None)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    pairs = list(read_pairs(find_pairs(arguments.data / "Set5", 4), 4))
    networks = {BUNDLED: (models.build("edsr", scale=4), sample_photographs(), 32)}
    for name, file in AUTHORS.items():
        training = list_images(arguments.data / "train")
        networks[name] = (models.load(arguments.weights / file, scale=4), training, 16)
    rows, broken = [], False
    for name, (network, paths, count) in networks.items():
        pictures = crops(paths, count, 4)
        for method, bits in ROWS:
            config = replace(
                METHODS[method], bits=bits, weight_bits=bits, act_bits=bits, edges=arguments.edges
            )
            fake = ptqsr.calibrate(network, pictures, config)
            with torch.inference_mode():
                simulated, deployed = (
                    ptqsr.evaluate(net, pairs).psnr for net in (fake, ptqsr.deploy(fake))
                )
            bound = 0.05 if bits == 8 else 0.02
            broken |= abs(deployed - simulated) > bound
            rows.append(
                {
                    "network": name,
                    "method": method,
                    "bits": bits,
                    "edges": arguments.edges,
                    "simulated": simulated,
                    "deployed": deployed,
                }
            )
            print(
                f"{name:<26} {method:<14} {bits} bits  simulated {simulated:.3f}  "
                f"deployed {deployed:.3f}  {deployed - simulated:+.4f} dB (bound {bound})",
                flush=True,
            )
    write(arguments.json, rows)
    sys.exit(broken)


if __name__ == "__main__":
    main()
