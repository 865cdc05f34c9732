"""Every example in the README, on the page for T4s and in docstrings runs."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from helpers import write_photograph

from ptqsr.images import read_rgb
from ptqsr.models import SRNetwork

README = Path(__file__).resolve().parents[1] / "README.md"
T4 = README.parent / "docs" / "deploy-t4.md"
EXAMPLES, T4_EXAMPLES = (
    re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) for page in (README, T4)
)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_readme(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), {})


def test_the_t4_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: SRNetwork) -> None:
    """Its first example runs; the worker enlarges every picture once, and nothing else."""
    monkeypatch.chdir(tmp_path)
    first, worker = T4_EXAMPLES
    names: dict[str, Any] = {}
    exec(compile(first, "first example", "exec"), names)
    assert names["large"].shape == (2, 3, 360, 640)
    exec(compile(worker, "worker", "exec"), names)
    for number in range(12):
        write_photograph(tmp_path / "in" / f"{number}.png", 12, 16, number)
    (tmp_path / "in" / "broken.png").write_text("no picture")
    (tmp_path / "out").mkdir()
    assert names["work"](tiny, tmp_path / "in", tmp_path / "out") == 12
    assert names["work"](tiny, tmp_path / "in", tmp_path / "out") == 0
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == sorted(f"{number}.png" for number in range(12))
    assert read_rgb(tmp_path / "out" / "3.png").shape == (24, 32, 3)


@pytest.mark.parametrize(
    "name", ["ptqsr.config", "ptqsr.models", "ptqsr.points.universal", "ptqsr.points.selection"]
)
def test_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize("page", [README, T4], ids=lambda page: page.name)
def test_pages_name_real_options(page: Path) -> None:
    """Options in their commands exist; the README has every command."""
    from typer.testing import CliRunner

    from ptqsr.cli.app import COMMANDS, app

    text = page.read_text().replace("\\\n", " ")
    commands = re.findall(r"^(?:pip install .* && )?ptqsr (\w+)(.*)$", text, re.MULTILINE)
    assert commands and ({name for name, _ in commands} == set(COMMANDS) or page != README)
    for name, rest in commands:
        help_text = CliRunner().invoke(app, [name, "--help"], terminal_width=200).output
        for option in re.findall(r"--[\w-]+", rest):
            assert option in help_text, f"{name} {option}"
