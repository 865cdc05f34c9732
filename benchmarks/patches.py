"""What choosing bits costs: a CADyQ network beside its 8-bit PAMS teacher, on the same patches.

    python -m benchmarks.patches --json benchmarks/results/patches.json

Both deployed, EDSR-baseline x4 on patches of 96x96 from the photographs of scikit-learn, one
thread, interleaved rounds; whole networks, and their features alone, without what enlarges, which
is PyTorch's float32 in both. For every instruction set in a process of its own; exits with 1 where
a goal is missed, with 2 where one is not measured: at most 1.08 times the teacher's time on VNNI,
where 4 bits are no faster than 8, and less than the teacher's on AVX2. CADyQ's selectors are set
so that in every layer a third of the patches takes 4, 6 and 8 bits, other patches from layer to
layer; or all take 8, or 4. Weights are not trained: time does not depend on them. `--runs`: two
checkpoints of `ptqsr finetune`, the teacher's and CADyQ's, in their place.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import ptqsr
from benchmarks.patches_ours import alone, mixed, pair
from benchmarks.timer import as_json, compare, write
from ptqsr import models, native
from ptqsr.evaluation import recording_bits
from ptqsr.images import cut, sample_photographs, to_tensor
from ptqsr.models import SRNetwork

TEACHER, ALONE, CHOSEN = "8-bit teacher", "8-bit teacher, layer by layer", "CADyQ"
# Of the patches, in every layer, those that take 4, 6 and 8 bits.
MIXES = {"a third each": (1, 1, 1), "8 bits": (0, 0, 1), "4 bits": (1, 0, 0)}
# Of the teacher's time: at most, and less than.
GOALS = {"avx512_vnni": 1.08, "avx2": 1.0}
ONEDNN = {"avx2": "AVX2"}  # for PyTorch's float layers


def networks(patches: torch.Tensor, runs: Sequence[Path]) -> dict[str, SRNetwork]:
    """Return what is timed, the teacher first."""
    if runs:
        teacher, student = map(ptqsr.load, runs)
        chosen = {CHOSEN: student}
    else:
        teacher, student = pair(models.build("edsr", scale=4), patches)
        chosen = {
            f"{CHOSEN}, {mix}": mixed(student, patches, shares) for mix, shares in MIXES.items()
        }
    deployed = {name: ptqsr.deploy(network) for name, network in chosen.items()}
    return {TEACHER: ptqsr.deploy(teacher), ALONE: alone(teacher), **deployed}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the timings of this process's instruction set, and what was chosen."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    crops, _ = cut(sample_photographs(), size=96, count=options.batch, held_out=0, seed=0)
    patches = torch.cat([to_tensor(crop) for crop in crops])
    patches = patches.contiguous(memory_format=torch.channels_last)
    ours = networks(patches, options.runs)
    found: dict[str, Any] = {"mean bits": {}}
    with torch.inference_mode():
        for name, network in ours.items():
            with recording_bits(network) as chosen:
                network(patches)
            if chosen:
                found["mean bits"][name] = fmean(chain.from_iterable(chosen.values()))
        parts = {
            "network": {name: partial(network, patches) for name, network in ours.items()},
            "features": {
                name: partial(network.features, patches) for name, network in ours.items()
            },
        }
        for part, runs in parts.items():
            found[part] = as_json(compare(runs, rounds=options.rounds))
    return found


def show(isa: str, found: dict[str, Any]) -> bool:
    """Print a table; return whether the goal of the instruction set is kept, or there is none."""
    for part in ("network", "features"):
        heads = f"{'ms':>9}{'quartiles':>16}{'CPU ms':>9}  of the teacher's time, CPU time"
        print(f"\n{f'{isa}, {part}':<42}{heads}")
        for row in found[part]:
            bits = found["mean bits"].get(row["name"])
            name = row["name"] + ("" if bits is None else f" ({bits:.2f} bits)")
            spread = f"[{row['low_ms']:.0f}, {row['high_ms']:.0f}]"
            ratio = f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}]"
            cpu = row["cpu_ms"] / found[part][0]["cpu_ms"]
            times = f"{row['median_ms']:>9.1f}{spread:>16}{row['cpu_ms']:>9.1f}"
            print(f"{name:<42}{times}  {ratio}, {cpu:.3f}")
    kept = True
    for row in found["network"]:
        # Where all patches take 8 bits, or 4, there is nothing that they would share out.
        if isa in GOALS and row["name"] in (CHOSEN, f"{CHOSEN}, {next(iter(MIXES))}"):
            most, goal = GOALS[isa], f"{'less than' if isa == 'avx2' else 'at most'} {GOALS[isa]}"
            good = row["ratio"] < most if isa == "avx2" else row["ratio"] <= most
            kept = kept and good
            word = "kept" if good else "BROKEN"
            print(f"{word:<8} {row['name']}: {row['ratio']:.3f} of the teacher's time, goal {goal}")
    return kept


def child(isa: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what another process measures with an instruction set."""
    environment = {**os.environ, native.ISA_VARIABLE: isa}
    if isa in ONEDNN:
        environment["ONEDNN_MAX_CPU_ISA"] = ONEDNN[isa]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.patches", *sys.argv[1:], "--one", str(path)]
        subprocess.run(command, env=environment, check=True)
        return json.loads(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    module = native.load()
    known = module.available_isas() if module is not None else []
    by_default = [isa for isa in known if isa in GOALS]
    parser.add_argument("--isas", nargs="+", default=by_default, choices=known)
    parser.add_argument("--batch", type=int, default=8, help="patches at a time")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, nargs=2, default=(), metavar="CHECKPOINT")
    parser.add_argument("--json")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        options.one.write_text(json.dumps(measure(options)))
        return
    figures = {isa: child(isa, options) for isa in options.isas}
    kept = [show(isa, found) for isa, found in figures.items()]
    write(options.json, figures)
    if left := [isa for isa in GOALS if isa not in figures]:
        print(f"not measured: {', '.join(left)}")
    sys.exit(1 if not all(kept) else 2 if left else 0)


if __name__ == "__main__":
    main()
