"""Write the table of benchmarks/results/psnr.json into the README.

python tools/readme_table.py
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.psnr import markdown  # noqa: E402

rows = json.loads((ROOT / "benchmarks/results/psnr.json").read_text())["figures"]
readme = ROOT / "README.md"
text, count = re.subn(
    r"<!-- table -->\n.*?<!-- /table -->",
    lambda _: f"<!-- table -->\n{markdown(rows)}\n<!-- /table -->",
    readme.read_text(),
    flags=re.DOTALL,
)
assert count == 1, "README.md has no <!-- table --> marks"
readme.write_text(text)
