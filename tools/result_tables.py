"""Write the tables of benchmarks/results, and of the code, between the marks of the pages.

    python tools/result_tables.py

A table stands between <!-- name --> and <!-- /name -->.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import edges, floors  # noqa: E402
from benchmarks.tables import (  # noqa: E402
    ablation,
    complexity,
    papers,
    quality,
    recipe,
    selector_pages,
    trained_papers,
)
from benchmarks.tables.results import Row, markdown_table  # noqa: E402
from ptqsr.ops.cuda.limits import EVERY, LIMITS  # noqa: E402

SHORT = ("MinMax", "percentile", "DFSQ, k-means", "DFSQ, optimal", "dfsq+")


def short(rows: list[Row]) -> str:
    """Return the README's table: PSNR on Set5, a row for each network and bit-width.

    A figure that was not measured is an empty cell.
    """
    psnr = {(r["network"], r["bits"], r["method"]): r["Set5"]["psnr"] for r in rows if "Set5" in r}
    lines = []
    for network, bits in dict.fromkeys((network, bits) for network, bits, _ in psnr):
        keys = [(network, 32, "float"), *((network, bits, method) for method in SHORT)]
        full, *cells = (f"{psnr[key]:.3f}" if key in psnr else "" for key in keys)
        if bits < 32:
            lines.append([network, full, str(bits), *cells])
    return markdown_table(("network", "float", "bits", *SHORT), lines)


def limits() -> str:
    lines = (
        [
            ", ".join(name if name == EVERY else f"`{name}`" for name in limit.operations),
            limit.not_taken,
            limit.instead,
        ]
        for limit in LIMITS
    )
    return markdown_table(("operations", "not taken", "instead"), lines)


def of(file: str, table: Callable[[list[Row]], str]) -> str:
    path = ROOT / "benchmarks" / "results" / file
    return table(json.loads(path.read_text(encoding="utf-8"))["figures"])


def pages() -> dict[str, dict[str, str]]:
    """Return the tables by page and mark."""
    return {
        "README.md": {"table": of("tables/quality.json", short)},
        "docs/results.md": {
            "quality": of("tables/quality.json", quality.markdown),
            "dfsq": of("tables/quality.json", papers.dfsq),
            "ablation": of("tables/ablation.json", ablation.SWEEP.markdown),
            "recipe": of("tables/recipe.json", recipe.SWEEP.markdown),
            "selectors": of("tables/selectors.json", selector_pages.markdown),
            "complexity": of("tables/complexity.json", complexity.markdown),
            "finetuning": of("tables/finetuning.json", trained_papers.page),
            "curves": of("tables/finetuning.json", trained_papers.curves),
            "edges": of("edges.json", edges.markdown),
        },
        "docs/performance.md": {"limits": limits()},
        "docs/deploy-t4.md": {"floors": "\n".join(floors.page(floors.GPUS[0]))},
    }


def marked(text: str) -> dict[str, str]:
    """Return what stands between a page's marks, by name."""
    return {
        match[1]: match[2].strip("\n")
        for match in re.finditer(r"<!-- (\w+) -->\n(.*?)<!-- /\1 -->", text, re.DOTALL)
    }


def put(text: str, name: str, table: str) -> str:
    """Return a page's text with a table between its marks."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    pattern = re.escape(start) + ".*?" + re.escape(end)
    new = start + table + "\n" * bool(table) + end
    found, count = re.subn(pattern, lambda _: new, text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"there are {count} pairs of marks {name}, not 1")
    return found


if __name__ == "__main__":
    for page, tables in pages().items():
        text = (ROOT / page).read_text(encoding="utf-8")
        for name, table in tables.items():
            text = put(text, name, table)
        (ROOT / page).write_text(text, encoding="utf-8")
