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

# Of 65,536 registers of a multiprocessor a block of 256 threads may take 255 each.
MAX_REGISTERS = 255
# What multiplies, by a kernel's operands (Operand of csrc/cuda/mma.h) and architecture.
BEFORE_80 = {"s8": "IMMA.8816.S8.S8", "u8": "IMMA.8816.U8.S8",
             "s4": "IMMA.8832.S4.S4", "u4": "IMMA.8832.U4.S4"}  # fmt: skip
BEFORE_90 = {"s8": "IMMA.16832.S8.S8", "u8": "IMMA.16832.U8.S8",
             "s4": "IMMA.16864.S4.S4", "u4": "IMMA.16864.U4.S4"}  # fmt: skip
FROM_90 = {"s8": "IMMA.16832.S8.S8", "u8": "IMMA.16832.U8.S8",
           "s4": "IMMA.16832.S8.S8", "u4": "IMMA.16832.U8.S8"}  # fmt: skip
OPERANDS = ("s8", "u8", "s4", "u4")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9._]*)")


def expected(architecture: int, operand: str) -> str:
    if architecture < 80:
        return BEFORE_80[operand]
    return BEFORE_90[operand] if architecture < 90 else FROM_90[operand]


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
    wrong, multiplied = [], Counter[tuple[int, str]]()
    for (architecture, name), instructions in kernels(module).items():
        where = f"sm_{architecture} {name}"
        memory = sorted(i for i in instructions if i.split(".")[0] in ("STL", "LDL"))
        if memory:
            wrong.append(f"{where}: registers kept in memory ({', '.join(memory)})")
        products = {i for i in instructions if i.startswith("IMMA")}
        operand = re.search(r"NS\d*_?7OperandE(\d)E", name) or re.search(r"7OperandE(\d)", name)
        if operand is None:
            if products:
                wrong.append(f"{where}: multiplies ({', '.join(sorted(products))})")
            continue
        wanted = expected(architecture, OPERANDS[int(operand[1])])
        if products - {wanted}:
            wrong.append(f"{where}: {', '.join(sorted(products))}, not {wanted}")
        multiplied[architecture, OPERANDS[int(operand[1])]] += instructions[wanted]
    for (architecture, operand), count in multiplied.items():
        if count == 0:
            wrong.append(f"sm_{architecture}: no kernel multiplies {operand}")
    if not multiplied:
        wrong.append(f"{module}: no kernel uses tensor cores")
    for line in dump(module, "-res-usage").splitlines():
        match = re.search(r"REG:(\d+) STACK:(\d+)", line)
        if match and (int(match[1]) > MAX_REGISTERS or int(match[2]) > 0):
            wrong.append(f"registers or stack: {line.strip()}")
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
