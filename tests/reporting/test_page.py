"""The page as text: whole, safe, and readable."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from ptqsr.reporting import Report
from ptqsr.reporting.layers import layer_table
from ptqsr.reporting.markup import VOID, Markup, element, join
from ptqsr.reporting.noise import LayerNoise
from ptqsr.reporting.page import page as page_of
from ptqsr.reporting.svg import Axis, number
from ptqsr.reporting.words import bare, db

STYLE = (files("ptqsr.reporting") / "page.css").read_text()


class Reader(HTMLParser):
    """Collects elements, and fails where they do not close as they opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text())
    reader.close()
    assert reader.open == []
    return reader


def test_needs_nothing_else(read: Reader) -> None:
    for tag, attributes in read.found:
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:image/webp;base64,", "#")), (tag, value)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert "url(" not in STYLE and "@import" not in STYLE


def test_every_control_and_picture_has_a_name(read: Reader) -> None:
    ids = [attributes["id"] for _, attributes in read.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in read.found:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"]
        if tag == "input" and attributes["type"] == "range":
            assert attributes["aria-label"]
        if tag == "a":
            assert attributes["href"][1:] in ids
    headings = [attributes for tag, attributes in read.found if "aria-sort" in attributes]
    assert len(headings) == 3 * 8


def test_shows_every_layer_and_figure(page: Path, made: Report) -> None:
    text = page.read_text()
    for network in made.networks:
        assert db(network.after.psnr, 3) in text
        for name in network.noise:
            assert text.count(f">{name}<") >= 3
    assert "a &lt;b&gt;&amp;" in text and "a <b>" not in text
    assert page_of(made) == text


def test_what_is_exact_sorts_first(made: Report) -> None:
    network = made.networks[0]
    noise = dict.fromkeys(network.noise, LayerNoise(float("inf"), float("-inf")))
    table = layer_table(replace(network, noise=noise), 0)
    for value in ("Infinity", "-Infinity"):
        assert table.count(f'data-value="{value}"') == len(noise)
    assert '"inf' not in table and '"-inf' not in table


def test_nothing_is_left_unescaped() -> None:
    evil = '"><script>alert(1)</script>'
    made = element("p", evil, title=evil, hidden=True, class_=None)
    assert made.count("<") == 2 and made.startswith("<p title=") and " hidden>" in made
    assert join(evil, Markup("<br>")).endswith("<br>") and "<script" not in join(evil)


def test_axes_have_round_numbers() -> None:
    assert Axis(-0.93, 1.02, 0, 100).ticks(4) == [-0.5, 0, 0.5, 1]
    assert Axis(0, 7, 0, 70).ticks(3) == [0, 5] and Axis(0, 7, 0, 70)(3.5) == 35
    assert number(-0.5) == "\N{MINUS SIGN}0.5"
    assert [bare(-0.001), bare(float("inf")), bare(float("nan"))] == ["0.00", "exact", "none"]


def colours(dark: bool) -> dict[str, tuple[float, ...]]:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    found = re.findall(r"--(\w+): #(\w{6})", blocks[1 if dark else 0])
    return {name: tuple(int(hex_[i : i + 2], 16) / 255 for i in (0, 2, 4)) for name, hex_ in found}


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """WCAG 2.2's ratio."""

    def luminance(colour: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_stand_out(dark: bool) -> None:
    found = colours(dark)
    for text in ("ink", "faint", "accent", "cost"):
        for ground in ("back", "front", "track"):
            assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    assert contrast(found["point"], found["front"]) >= 3
