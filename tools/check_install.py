"""Say whether the ptqsr that is installed for this Python works, kernels and all.

    python tools/check_install.py cpu|cuda

There must be no compiler on PATH: what runs was installed, not built. `ptqsr calibrate` quantizes
the bundled EDSR twice. With statistics of every picture (DFSQ) it gives, deployed, the same bits by
every instruction set of this machine, nearer to the simulated network than that is to the float
one. With static codes (MinMax) it gives the bits of the PyTorch reference.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_sample_image

import ptqsr
from ptqsr import models, native

COMPILERS = ("cc", "gcc", "c++", "g++", "clang", "nvcc")
DYNAMIC = ("--method", "dfsq", "--selector", "optimal", "--bits", "4")
STATIC = ("--method", "minmax", "--bits", "8")
SMALL = ("--num-images", "4", "--patch-size", "24")


def main() -> None:
    kind = sys.argv[1]
    found = [name for name in COMPILERS if shutil.which(name)]
    hold(not found, f"there are compilers on PATH: {found}")
    hold(Path(ptqsr.__file__).is_relative_to(sys.prefix), f"{ptqsr.__file__} is not installed here")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        described = json.loads(command("info", "--json", "-"))
        hold(described["native"], "the native module does not load")
        hold(bool(described["cuda_built_for"]) == (kind == "cuda"), f"this is no build for {kind}")
        isas = described["cpu_instruction_sets"]
        check_dynamic(calibrated(DYNAMIC), isas)
        check_static(calibrated(STATIC), isas)
        os.chdir("/")
    version = sys.version.split()[0]
    print(f"ptqsr works ({kind}): Python {version}, torch {torch.__version__}, {', '.join(isas)}")


def check_dynamic(network: models.SRNetwork, isas: list[str]) -> None:
    x = picture()
    simulated, full = network(x), models.build("edsr", scale=network.scale)(x)
    outputs = [deployed(network, isa) for isa in isas]
    for isa, y in zip(isas, outputs, strict=True):
        hold(torch.equal(y, outputs[0]), f"{isa} computes something else than {isas[0]}")
    lost, quantized = distance(outputs[0], simulated), distance(simulated, full)
    hold(lost < quantized, f"deploying moves the output by {lost}, quantizing by {quantized}")


def check_static(network: models.SRNetwork, isas: list[str]) -> None:
    outputs = {isa: deployed(network, isa) for isa in isas}
    # The last: nothing native runs from here on.
    native.load = lambda: None
    reference = deployed(network, None)
    for isa, y in outputs.items():
        hold(torch.equal(y, reference), f"{isa} computes something else than the reference")


def calibrated(options: tuple[str, ...]) -> models.SRNetwork:
    command("calibrate", "--model", "edsr", *options, *SMALL, "-o", "checkpoint.safetensors")
    network = ptqsr.load("checkpoint.safetensors")
    Path("checkpoint.safetensors").unlink()
    return network


def deployed(network: models.SRNetwork, isa: str | None) -> torch.Tensor:
    """Return the output in integers, by one instruction set; None: by the one there is."""
    os.environ.pop(native.ISA_VARIABLE, None)
    if isa is not None:
        os.environ[native.ISA_VARIABLE] = isa
    native.cpu_isa.cache_clear()
    return ptqsr.deploy(network)(picture())


def picture() -> torch.Tensor:
    """Float32 [1, 3, 24, 32] in [0, 1]."""
    pixels = torch.from_numpy(load_sample_image("china.jpg")[100:124, 100:132].copy())
    return pixels.permute(2, 0, 1)[None] / 255


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean())


def command(*options: str) -> str:
    """Return what the installed command prints on standard output."""
    program = Path(sys.executable).parent / "ptqsr"
    done = subprocess.run([program, *options], capture_output=True, text=True)
    hold(done.returncode == 0, f"ptqsr {options[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise SystemExit(f"check_install: {otherwise}")


if __name__ == "__main__":
    with torch.no_grad():
        main()
