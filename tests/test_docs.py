"""Every example in the README and in docstrings runs."""

from __future__ import annotations

import doctest
import importlib
import json
import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_readme(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), {})


@pytest.mark.parametrize(
    "name", ["ptqsr.config", "ptqsr.models", "ptqsr.points.universal", "ptqsr.points.selection"]
)
def test_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0 and result.failed == 0


def test_readme_names_real_options() -> None:
    """Options in the README's commands exist."""
    from typer.testing import CliRunner

    from ptqsr.cli.app import COMMANDS, app

    text = README.read_text().replace("\\\n", " ")
    commands = re.findall(r"^(?:pip install .* && )?ptqsr (\w+)(.*)$", text, re.MULTILINE)
    assert {name for name, _ in commands} == set(COMMANDS)
    for name, rest in commands:
        help_text = CliRunner().invoke(app, [name, "--help"], terminal_width=200).output
        for option in re.findall(r"--[\w-]+", rest):
            assert option in help_text, f"{name} {option}"


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_tables_are_the_committed_results(page: str) -> None:
    """Every figure of a table is in the results, and every result in docs/results.md."""
    root = README.parent
    results = json.loads((root / "benchmarks/results/psnr.json").read_text())["figures"]
    table = re.search(r"<!-- table -->\n(.*?)<!-- /table -->", (root / page).read_text(), re.DOTALL)
    assert table is not None
    head, _, *lines = table[1].strip().splitlines()
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    expected = []
    if page == "README.md":
        methods = [cell.strip() for cell in head.strip("|").split("|")][3:]
        psnr = {(r["network"], r["bits"], r["method"]): r["Set5"]["psnr"] for r in results}
        for network, bits in dict.fromkeys((r["network"], r["bits"]) for r in results):
            if bits < 32:
                figures = [psnr[network, 32, "float"], *(psnr[network, bits, m] for m in methods)]
                cells = [f"{figure:.3f}" for figure in figures]
                expected.append([network, cells[0], str(bits), *cells[1:]])
    else:
        for row in results:
            sets = (row[name] for name in ("Set5", "Set14", "BSD100"))
            cells = [f"{x['psnr']:.3f} / {x['ssim']:.4f}" for x in sets]
            expected.append([row["network"], str(row["bits"]), row["method"], *cells])
    assert found == expected


def test_the_table_of_edges_is_the_committed_results() -> None:
    root = README.parent
    results = json.loads((root / "benchmarks/results/edges.json").read_text())["figures"]
    page = (root / "docs/results.md").read_text()
    table = re.search(r"<!-- edges -->\n(.*?)<!-- /edges -->", page, re.DOTALL)
    assert table is not None
    found = [line.strip("| ").split(" | ") for line in table[1].strip().splitlines()[2:]]
    expected = [
        [
            row["network"],
            "float" if row["edges"] is None else f"{row['edges']} bits",
            f"{row['psnr']:.3f}",
            f"{row['ssim']:.4f}",
            f"{row['quantized_layers']} of {row['layers']}",
            f"{row['bitops'] / 1e12:.1f}T",
            f"{row['storage'] / 1e3:.1f}K",
        ]
        for row in results
    ]
    assert found == expected
