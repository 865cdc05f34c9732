"""PSNR of deployed networks beside the simulated ones, on Set5: contract 4 of the design.

    python -m benchmarks.deployed --data ../shared/data --weights ../shared/weights

The networks and their calibration pictures are those of benchmarks/psnr.py. The contract: within
0.02 dB with weights of up to 6 bits, 0.05 dB at 8. Exits with 1 where it is broken.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

import ptqsr
from benchmarks.psnr import METHODS, crops, sources
from benchmarks.timer import write
from ptqsr.evaluation import find_pairs, read_pairs

ROWS = [("DFSQ, optimal", bits) for bits in (8, 6, 4, 3)] + [("MinMax", 8), ("MinMax", 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--edges", type=int, default=None)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    pairs = list(read_pairs(find_pairs(arguments.data / "Set5", 4), 4))
    networks = sources(arguments.data, arguments.weights)
    rows, broken = [], False
    for name, (build, paths, count) in networks.items():
        network, pictures = build(), crops(paths, count, 4)
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
