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


def test_readme_table_is_the_committed_result() -> None:
    """Every row of the measured figures stands in the README, and no other."""
    results = json.loads((README.parent / "benchmarks/results/psnr.json").read_text())
    rows = set()
    for row in results["figures"]:
        sets = (row[name] for name in ("Set5", "Set14", "BSD100"))
        cells = " | ".join(f"{x['psnr']:.3f} / {x['ssim']:.4f}" for x in sets)
        rows.add(f"| {row['network']} | {row['bits']} | {row['method']} | {cells} |")
    table = re.search(r"<!-- table -->\n(.*?)<!-- /table -->", README.read_text(), re.DOTALL)
    assert table is not None
    assert set(table[1].strip().splitlines()[2:]) == rows
