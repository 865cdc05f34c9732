"""Hold the machine code of the GPU kernels to what is meant.

    python tools/check_sass.py build/_native*.so

Reads the code that nvcc made for every architecture and checks that tensor cores are used by the
instructions of csrc/cuda/mma.h, that no kernel keeps registers in memory, and that registers and
static shared memory leave room for the blocks that are meant to run. Needs
`pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm`. Exits with 1 and a line for every breach.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from importlib.util import find_spec
from pathlib import Path

ARCHITECTURES = {75, 80, 86, 89, 90}
# 65,536 registers of a multiprocessor hold a block of 256 threads with any number of them; where
# kernels ask for two blocks (kBlocks), each thread has half.
MAX_REGISTERS = {"Multiply": 128}
# What multiplies, by the operands in shared memory (Operand of csrc/cuda/mma.h).
BEFORE_80 = {"s8": "IMMA.8816.S8.S8", "u8": "IMMA.8816.U8.S8",
             "s4": "IMMA.8832.S4.S4", "u4": "IMMA.8832.U4.S4"}  # fmt: skip
FROM_80 = {"s8": "IMMA.16832.S8.S8", "u8": "IMMA.16832.U8.S8",
           "s4": "IMMA.16864.S4.S4", "u4": "IMMA.16864.U4.S4"}  # fmt: skip
OPERANDS = ("s8", "u8", "s4", "u4")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9._]*)")


# In a kernel's mangled name: its template's operand, and the source of a convolution's, of which 1
# is taken apart from 4 bits to bytes.
MULTIPLIES = re.compile(r"(Multiply|Convolve)I\S*?7OperandE(\d)E(?:L\S*?6SourceE(\d)E)?")


def expected(architecture: int, family: str, operand: str, apart: bool) -> str | None:
    """Return what a kernel multiplies by; None where it must not run and only traps."""
    if operand[1] == "4" and architecture >= 90 and family == "Convolve" and not apart:
        return None
    if apart or architecture >= 90:
        operand = operand[0] + "8"
    return (BEFORE_80 if architecture < 80 else FROM_80)[operand]


def tool(name: str) -> str:
    """Return the path of one of NVIDIA's tools, from PATH or from its wheel."""
    for spec in ("nvidia.cu13", "nvidia.cuda_cuobjdump", "nvidia.cuda_nvdisasm"):
        try:
            found = find_spec(spec)
        except ModuleNotFoundError:
            continue
        for place in (found.submodule_search_locations or []) if found else []:
            if (Path(place) / "bin" / name).exists():
                return str(Path(place) / "bin" / name)
    return name


def dump(module: str, what: str) -> str:
    # cuobjdump calls nvdisasm.
    path = os.pathsep.join([str(Path(tool("nvdisasm")).parent), os.environ["PATH"]])
    run = subprocess.run(
        [tool("cuobjdump"), what, module],
        env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return run.stdout


def kernels(module: str) -> dict[tuple[int, str], Counter[str]]:
    """Return the instructions of every kernel, by architecture and name."""
    found: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    architecture, name = 0, ""
    for line in dump(module, "-sass").splitlines():
        if match := re.search(r"arch = sm_(\d+)", line):
            architecture = int(match[1])
        elif match := re.search(r"Function : (\S+)", line):
            name = match[1]
        elif match := INSTRUCTION.search(line):
            found[architecture, name][match[1]] += 1
    return found


def check(module: str) -> list[str]:
    """Return what is wrong."""
    wrong, families = [], Counter[str]()
    found = kernels(module)
    for (architecture, name), instructions in found.items():
        where = f"sm_{architecture} {name}"
        memory = sorted(i for i in instructions if i.split(".")[0] in ("STL", "LDL"))
        if memory:
            wrong.append(f"{where}: registers kept in memory ({', '.join(memory)})")
        products = {i for i in instructions if i.startswith("IMMA")}
        match = MULTIPLIES.search(name)
        wanted = None
        if match is not None:
            families[match[1]] += 1
            operand = OPERANDS[int(match[2])]
            wanted = expected(architecture, match[1], operand, match[3] == "1")
        if products != ({wanted} if wanted else set()):
            wrong.append(f"{where}: multiplies by {sorted(products)}, not by {wanted}")
    if {architecture for architecture, _ in found} != ARCHITECTURES:
        wrong.append(f"{module}: not of the architectures {sorted(ARCHITECTURES)}")
    if set(families) != {"Multiply", "Convolve"}:
        wrong.append(f"{module}: products are in {sorted(families)} alone")
    return wrong + check_resources(dump(module, "-res-usage"), len(found))


def check_resources(text: str, kernels: int) -> list[str]:
    """Return what is wrong with registers and stack, of what cuobjdump says of them."""
    wrong, count, architecture = [], 0, 0
    name = ""
    for line in text.splitlines():
        if match := re.search(r"arch = sm_(\d+)", line):
            architecture = int(match[1])
        elif match := re.search(r"Function (\S+):", line):
            name = match[1]
        elif match := re.search(r"REG:(\d+) STACK:(\d+)", line):
            count += 1
            registers, stack = int(match[1]), int(match[2])
            family = MULTIPLIES.search(name)
            most = MAX_REGISTERS.get(family[1], 255) if family and architecture >= 80 else 255
            if registers > most or stack > 0:
                wrong.append(
                    f"sm_{architecture} {name}: {registers} registers, not {most}, and {stack} "
                    "bytes of stack"
                )
    if count != kernels:
        wrong.append(f"{kernels} kernels, but the resources of {count}")
    return wrong


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    wrong = check(sys.argv[1])
    for line in wrong:
        print(line)
    if wrong:
        sys.exit(1)
    found = kernels(sys.argv[1])
    by_architecture = Counter(architecture for architecture, _ in found)
    for architecture, count in sorted(by_architecture.items()):
        products = Counter[str]()
        for (of, _), instructions in found.items():
            if of == architecture:
                products.update({i: n for i, n in instructions.items() if i.startswith("IMMA")})
        uses = ", ".join(f"{n} {i}" for i, n in sorted(products.items()))
        print(f"sm_{architecture}: {count} kernels, none spills; {uses}")


if __name__ == "__main__":
    main()
