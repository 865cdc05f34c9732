"""What the documentation site makes of the command line and of links; .ci/run builds it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from ptqsr.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT))

from tools import site_hooks  # noqa: E402


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return site_hooks.commands()


def test_every_command_and_option_has_its_place(pages: dict[str, str]) -> None:
    assert list(pages) == list(COMMANDS)
    for name, command in COMMANDS.items():
        page = pages[name]
        assert (command.__doc__ or "?").split("\n")[0] in page
        options = set(re.findall(r'<dt id="(--[\w-]+)">', page))
        names = {p.replace("_", "-") for p in command.__annotations__} - {"return"}
        spelt = {
            "--set",
            "--json",
            "--output",
            "--sensitivity",
        }  # other names than their parameters'
        assert {o for o in options if o.removeprefix("--") not in names} <= spelt, name
    assert '<dt id="--selector">' in pages["calibrate"]
    assert "[default: (kmeans; dfsq+ and" in pages["calibrate"]
    assert "<code>IN" in pages["upscale"]
    assert "ptqsr upscale [OPTIONS] IN OUT" in pages["upscale"]
    overview = site_hooks.overview()
    assert all(f"({name}.md)" in overview for name in COMMANDS)


def test_examples_come_from_the_pages(pages: dict[str, str]) -> None:
    assert all("## Examples" in page for page in pages.values())
    assert "From [Quick start](../quick-start.md):" in pages["upscale"]
    assert "From [ptqsr](../index.md):" in pages["finetune"]
    # A command of several lines is whole, and one that begins alike is not another's.
    assert "--act-bits 6 \\\n    --images photographs/" in pages["calibrate"]
    assert "finetune" not in pages["train"].split("## Examples")[1]


@pytest.mark.parametrize(
    ("page", "link", "found"),
    [
        ("README.md", "docs/results.md#quality", "results.md#quality"),
        ("README.md", "CHANGELOG.md", "changes.md"),
        ("docs/results.md", "performance.md", "performance.md"),
        ("docs/python.md", "../README.md#from-python", "index.md#from-python"),
        ("docs/results.md", "../benchmarks/results", "files/benchmarks/results/index.md"),
        ("docs/results.md", "../csrc/cpu/packing.cpp", "files/csrc/cpu/packing.cpp"),
        ("ptqsr/models/bundled/edsr_x4.md", "../base.py", "../base.py"),
        ("docs/results.md", "https://example.org/a#b", "https://example.org/a#b"),
        ("docs/results.md", "../nowhere.py", "../nowhere.py"),
        ("docs/results.md", "../../outside.md", "../../outside.md"),
    ],
)
def test_links_lead_where_the_site_has_it(page: str, link: str, found: str) -> None:
    assert site_hooks.relinked(f"see [x]({link}), y", ROOT / page) == f"see [x]({found}), y"


def test_what_is_linked_to_is_taken_along() -> None:
    linked = {path.relative_to(ROOT).as_posix() for path in site_hooks.linked()}
    assert {"README.md", "CHANGELOG.md", "benchmarks/results", "csrc/cpu/packing.cpp"} <= linked
    assert "benchmarks/results/body.json" in linked  # of the folder
    assert not any(name.startswith("docs/") for name in linked)


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert {path.name for path in DOCS.glob("*.md")} <= named


def test_pictures_are_small_and_for_both_themes() -> None:
    pictures = {path.name for path in (DOCS / "pictures").glob("*.svg")}
    assert pictures and all(
        name.replace("-light", "-dark") in pictures and name.replace("-dark", "-light") in pictures
        for name in pictures
    )
    assert sum(path.stat().st_size for path in (DOCS / "pictures").iterdir()) < 300_000
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    assert set(re.findall(r"pictures/([\w-]+\.svg)#gh-(?:light|dark)-mode-only", text)) == pictures
