"""Every example runs: the README's, those of docs/, and docstrings'."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers import write_clip, write_photograph
from typer.testing import CliRunner

from ptqsr import models
from ptqsr.cli.app import COMMANDS, app
from ptqsr.images import read_rgb
from ptqsr.methods import METHODS
from ptqsr.models import SRNetwork, from_spandrel

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
# Language, file to write, text.
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
# Commands of these take long, or a GPU: of these, options are looked at.
TOLD = (
    "README.md",
    "deploy-t4.md",
    "export.md",  # exporting/test_onnx
    "releasing.md",
    "reports.md",
    "training-aware.md",
)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [block for block in found if block[0] != "text"]


def execute(text: str, name: str, names: dict[str, Any]) -> None:
    exec(compile(text, name, "exec"), names)


@pytest.mark.parametrize("number", range(sum(b[0] == "python" for b in blocks(README))))
def test_readme(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example by itself, with the networks that it names."""
    monkeypatch.chdir(tmp_path)
    examples = [text for language, _, text in blocks(README) if language == "python"]
    execute(examples[number], f"README example {number}", {})


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with some photographs and the sources, where bundled networks are tiny ones."""
    original = models.build

    def build(name: str, *, weights: Any = "bundled", **settings: Any) -> SRNetwork:
        if weights == "bundled":
            settings = {"blocks": 2, "width": 16, **settings}
        return original(name, weights=None if weights == "bundled" else weights, **settings)

    monkeypatch.setattr(models, "build", build)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "csrc").symlink_to(ROOT / "csrc")
    for number in range(2):
        write_photograph(tmp_path / "photographs" / f"{number}.png", 40, 52, number)
    methods = dict(METHODS)
    yield tmp_path
    METHODS.clear()
    METHODS.update(methods)


@pytest.mark.usefixtures("workplace", "one_thread")
@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name not in TOLD and blocks(p)], ids=lambda page: page.stem
)
def test_page(page: Path) -> None:
    """What a page says is done, from top to bottom."""
    if page.stem == "any-network" and not from_spandrel.installed():
        pytest.skip(f"needs {from_spandrel.INSTALL}")
    if "film.mp4" in page.read_text(encoding="utf-8"):
        write_clip(Path("film.mp4"), "libx264", 2, 12, 16)
    names: dict[str, Any] = {}
    for language, file, text in blocks(page):
        if file:
            Path(file).write_text(text, encoding="utf-8")
        elif language == "python":
            execute(text, page.name, names)
        else:
            assert language == "bash", f"{page.name}: what is to be done with {language}?"
            for line in text.replace("\\\n", " ").splitlines():
                carry_out(line)


def carry_out(line: str) -> None:
    """Run a line of a shell, but for `pip` and on clusters, which take their time."""
    program, *arguments = shlex.split(line)
    if "--engine" in arguments:
        return
    if program == "ptqsr":
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    elif program != "pip":
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")
        subprocess.run([program, *arguments], check=True)


def test_the_t4_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: SRNetwork) -> None:
    """Its first example runs; the worker enlarges every picture once, and nothing else."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "deploy-t4.md"
    first, worker = (text for language, _, text in blocks(page) if language == "python")
    names: dict[str, Any] = {}
    execute(first, "first example", names)
    assert names["large"].shape == (2, 3, 360, 640)
    execute(worker, "worker", names)
    for number in range(12):
        write_photograph(tmp_path / "in" / f"{number}.png", 12, 16, number)
    (tmp_path / "in" / "broken.png").write_text("no picture")
    (tmp_path / "out").mkdir()
    assert names["work"](tiny, tmp_path / "in", tmp_path / "out") == 12
    assert names["work"](tiny, tmp_path / "in", tmp_path / "out") == 0
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == sorted(f"{number}.png" for number in range(12))
    assert read_rgb(tmp_path / "out" / "3.png").shape == (24, 32, 3)


@pytest.mark.usefixtures("one_thread")
def test_the_page_of_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its example in Python runs."""
    monkeypatch.chdir(tmp_path)
    (text,) = (t for language, _, t in blocks(ROOT / "docs" / "reports.md") if language == "python")
    execute(text, "reports.md", {})
    assert "module.2" in (tmp_path / "mine.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["ptqsr.config", "ptqsr.models", "ptqsr.points.universal", "ptqsr.points.selection"]
)
def test_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0 and result.failed == 0


@cache
def help_of(command: str) -> str:
    return CliRunner().invoke(app, [command, "--help"], terminal_width=200).output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_what_there_is(page: Path) -> None:
    """Commands, their options, modules, scripts and files that a page names exist."""
    text = page.read_text(encoding="utf-8")
    shell = "".join(text for language, _, text in blocks(page) if language == "bash")
    lines = shell.replace("\\\n", " ")
    commands = re.findall(r"^(?:pip install .* && )?ptqsr (\w+)(.*)$", lines, re.MULTILINE)
    if page == README:
        assert {name for name, _ in commands} == set(COMMANDS)
    for name, rest in commands + re.findall(r"`ptqsr (\w+)([^`]*)`", text):
        assert name in COMMANDS, name
        for option in re.findall(r"--[\w-]+", rest):
            assert option in help_of(name), f"{name} {option}"
    for module in re.findall(r"python -m (benchmarks[\w.]*)", text):
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for script in re.findall(r"(?:tools|benchmarks)/[\w/]+\.(?:py|sh)", text):
        assert (ROOT / script).exists(), script
    for link in re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link
