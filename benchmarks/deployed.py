"""PSNR of deployed networks beside the simulated ones, on Set5: contract 4 of the design.

    python -m benchmarks.deployed --data ../shared/data --weights ../shared/weights

The networks and their calibration pictures are those of benchmarks/tables. The contract: within
0.02 dB with weights of up to 6 bits, 0.05 dB at 8. Exits with 1 where it is broken.

At 4 bits and below, rounding alone moves a network by some 0.02 dB: a code that flips goes on to
others. So where a row comes near its bound, both forms are measured again on inputs that are
changed by some millionths, and their means are compared; `error` is the standard error of that.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from statistics import mean, variance
from typing import Any

import ptqsr
from benchmarks.tables import networks
from benchmarks.tables.recipes import RECIPES
from benchmarks.timer import write
from ptqsr.models import SRNetwork

Pairs = Any  # what ptqsr.evaluate takes

CHANGES = 8
ROWS = [("DFSQ, optimal", bits) for bits in (8, 6, 4, 3)] + [("MinMax", 8), ("MinMax", 4)]


def bound_of(bits: int) -> float:
    """Return how far a deployed network may be from the simulated one, in dB, by weights' bits."""
    return 0.05 if bits == 8 else 0.02


def compare(
    fake: SRNetwork, deployed: SRNetwork, pairs: Pairs, near: float
) -> tuple[float, float, float]:
    """Return the mean PSNR of both, and the standard error of their difference (0 of one pair)."""
    change = 0.0
    for network in (fake, deployed):
        network.register_forward_pre_hook(lambda _, x: (x[0] * (1 + change),))
    found: list[list[float]] = [[], []]
    for number in range(CHANGES):
        change = number * 1e-6
        for values, network in zip(found, (fake, deployed), strict=True):
            values.append(ptqsr.evaluate(network, pairs).psnr)
        if abs(found[0][0] - found[1][0]) < near:
            return found[0][0], found[1][0], 0.0
    error = ((variance(found[0]) + variance(found[1])) / CHANGES) ** 0.5
    return mean(found[0]), mean(found[1]), error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    networks.add_arguments(parser)
    parser.add_argument("--edges", type=int, default=None)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    pairs = networks.pairs(arguments.data, "Set5", 4)
    rows, broken = [], False
    for chosen in networks.available(arguments.weights, scales=(4,)):
        name, network = chosen.name, chosen.build(arguments.weights)
        pictures = chosen.crops(arguments.data)
        for method, bits in ROWS:
            config = replace(RECIPES[method].config(bits), edges=arguments.edges)
            fake = ptqsr.calibrate(network, pictures, config)
            bound = bound_of(bits)
            simulated, deployed, error = compare(fake, ptqsr.deploy(fake), pairs, bound / 2)
            broken |= abs(deployed - simulated) > bound + error
            rows.append(
                {
                    "network": name,
                    "method": method,
                    "bits": bits,
                    "edges": arguments.edges,
                    "simulated": simulated,
                    "deployed": deployed,
                    "error": error,
                }
            )
            print(
                f"{name:<26} {method:<14} {bits} bits  simulated {simulated:.3f}  "
                f"deployed {deployed:.3f}  {deployed - simulated:+.4f} dB "
                f"+- {error:.4f} (bound {bound})",
                flush=True,
            )
    write(arguments.json, rows)
    sys.exit(broken)


if __name__ == "__main__":
    main()
