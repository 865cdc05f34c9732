"""Write the tables of benchmarks/results/psnr.json into README.md and docs/results.md.

python tools/result_tables.py
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.psnr import METHODS, markdown  # noqa: E402


def short(rows: list[dict]) -> str:
    """Return the README's table: PSNR on Set5, a row for each network and bit-width."""
    psnr = {(r["network"], r["bits"], r["method"]): r["Set5"]["psnr"] for r in rows}
    lines = [
        f"| network | float | bits | {' | '.join(METHODS)} |",
        "| --- " * (3 + len(METHODS)) + "|",
    ]
    for network, bits in dict.fromkeys((r["network"], r["bits"]) for r in rows):
        if bits < 32:
            cells = [f"{psnr[network, bits, method]:.3f}" for method in METHODS]
            full = f"{psnr[network, 32, 'float']:.3f}"
            lines.append(f"| {network} | {full} | {bits} | {' | '.join(cells)} |")
    return "\n".join(lines)


def put(path: Path, table: str) -> None:
    text, count = re.subn(
        r"<!-- table -->\n.*?<!-- /table -->",
        lambda _: f"<!-- table -->\n{table}\n<!-- /table -->",
        path.read_text(),
        flags=re.DOTALL,
    )
    assert count == 1, f"{path} has no <!-- table --> marks"
    path.write_text(text)


if __name__ == "__main__":
    figures = json.loads((ROOT / "benchmarks/results/psnr.json").read_text())["figures"]
    put(ROOT / "README.md", short(figures))
    put(ROOT / "docs/results.md", markdown(figures))
