"""Memory: pictures of 960x540 through every network of the zoo, and the calibration of RDN.

    python -m benchmarks.memory --json benchmarks/results/memory.json

Every job runs in a process of its own, whose largest resident size is what is reported, beside what
`ptqsr upscale` estimated before. Memory depends on shapes alone, so that untrained networks do.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

import ptqsr
from benchmarks.timer import write
from ptqsr import Config, models
from ptqsr.images import cut, downscale, sample_photographs
from ptqsr.upscaling import Planner, run

HEIGHT, WIDTH, SCALE = 540, 960, 4
WAYS: dict[str, dict] = {
    "default": {},
    "1 GB": {"memory": 10**9},
    "tile 128, stats tile": {"tile": 128, "statistics": "tile"},
}


def crops(count: int) -> list[np.ndarray]:
    pictures, _ = cut(sample_photographs(), size=48 * SCALE, count=count, held_out=0, seed=0)
    return [downscale(picture, SCALE)[0] for picture in pictures]


def upscale(name: str, bits: int, way: str) -> dict:
    network = models.build(name, scale=SCALE, weights=None)
    if bits < 32:
        network = ptqsr.calibrate(network, crops(1), Config(bits=bits, selector="optimal"))
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    try:
        plan = Planner(network, **WAYS[way]).plan(HEIGHT, WIDTH)
    except ptqsr.PtqsrError as error:
        return {"plan": str(error)}
    start = time.perf_counter()
    assert run(network, picture, plan).shape == (HEIGHT * SCALE, WIDTH * SCALE, 3)
    seconds = time.perf_counter() - start
    return {
        "plan": str(plan),
        "seconds": round(seconds, 1),
        "estimated_gb": round(plan.peak_bytes / 1e9, 2),
    }


def calibrate(name: str, bits: int) -> dict:
    network = models.build(name, scale=SCALE, weights=None)
    start = time.perf_counter()
    ptqsr.calibrate(network, crops(32), Config(bits=bits, selector="optimal"))
    return {"seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--only", nargs="*", default=list(models.ARCHITECTURES))
    parser.add_argument("--job", nargs="*", help="one job in this process, for the above")
    arguments = parser.parse_args()
    if arguments.job:
        what, name, bits, *way = arguments.job
        figures = (
            upscale(name, int(bits), *way) if what == "upscale" else calibrate(name, int(bits))
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux
        print(json.dumps({**figures, "peak_gb": round(peak / 1e9, 2)}))
        return
    jobs = [["calibrate", "rdn", "4"]] if "rdn" in arguments.only else []
    for name in arguments.only:
        jobs += [["upscale", name, bits, "default"] for bits in ("32", "4")]
    if "edsr" in arguments.only:
        jobs += [["upscale", "edsr", bits, way] for bits in ("32", "4") for way in list(WAYS)[1:]]
    rows = []
    for job in jobs:
        command = [sys.executable, "-m", "benchmarks.memory", "--job", *job]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = {"job": " ".join(job), **json.loads(done.stdout.splitlines()[-1])}
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    write(arguments.json, rows)


if __name__ == "__main__":
    main()
