"""The page in headless Chromium; PTQSR_REPORT names another page to try than the tests' own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .chromium import Browser, find

# Keys as JavaScript calls them, with their codes.
RIGHT, DOWN, HOME, ENTER = ("ArrowRight", 39), ("ArrowDown", 40), ("Home", 36), ("Enter", 13)
NETWORK = ".of:not([hidden])"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with Browser(program, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def opened(browser: Browser, request: pytest.FixtureRequest) -> Browser:
    given = os.environ.get("PTQSR_REPORT")
    browser.size(1280)
    browser.open(Path(given) if given else request.getfixturevalue("page"))
    return browser


def each(browser: Browser, selector: str, value: str) -> list[Any]:
    """Return a value of every element `e` that a selector finds."""
    found = browser.run(f"[...document.querySelectorAll({selector!r})].map(e => {value})")
    assert isinstance(found, list)
    return found


def focus(browser: Browser, selector: str, number: int = 0) -> None:
    browser.run(f"document.querySelectorAll({selector!r})[{number}].focus()")


def test_it_loads_itself_and_nothing_else(opened: Browser) -> None:
    loaded = each(opened, "img", "e.complete && e.naturalWidth > 0")
    assert len(loaded) > 4 and all(loaded)
    asked = [
        p["request"]["url"] for name, p in opened.events if name == "Network.requestWillBeSent"
    ]
    assert [url.partition(":")[0] for url in asked if not url.startswith("data:")] == ["file"]
    loud = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [p for name, p in opened.events if name in loud] == []


def test_the_divide_moves_by_keys(opened: Browser) -> None:
    def cut() -> str:
        return str(each(opened, ".stack .over", "getComputedStyle(e).clipPath")[0])

    focus(opened, ".stack input")
    assert cut() == "inset(0px 0px 0px 50%)"
    opened.press(*RIGHT)
    assert cut() == "inset(0px 0px 0px 51%)"
    said = each(opened, ".stack input", "e.getAttribute('aria-valuetext')")[0]
    assert said.startswith("51 % float, 49 % ")
    opened.press(*HOME)
    assert cut() == "inset(0px 0px 0px 0%)"
    assert each(opened, ".stack", "getComputedStyle(e).outlineStyle")[:2] == ["solid", "none"]


def test_the_divide_follows_the_mouse(opened: Browser) -> None:
    stack = "document.querySelector('.stack')"
    opened.run(f"{stack}.scrollIntoView()")
    left, top, width, height = opened.run(
        f"(({{x, y, width, height}}) => [x, y, width, height])({stack}.getBoundingClientRect())"
    )
    y = top + height * 0.8
    for places in ((0.25,), (0.75, 0.5, 0.1), (0.1, 0.6, 1), (0.99, 0.4, 0)):
        opened.drag(*((left + width * place, y) for place in places))
        divide = opened.run("document.querySelector('.divide').getBoundingClientRect().x") + 1
        assert abs(divide - (left + width * places[-1])) < width * 0.011, places


def test_other_pictures_are_chosen_by_keys(opened: Browser) -> None:
    focus(opened, ".choose-left")
    opened.press(*HOME)
    assert set(each(opened, ".tag.left", "e.textContent")) == {"bicubic"}
    shown = each(opened, ".stack img:not([hidden])", "[e.dataset.who, e.className]")
    right = each(opened, ".choose-right", "e.value")[0]
    views = len(each(opened, ".stack", "1"))
    assert sorted(shown) == sorted([["bicubic", "under"], [right, "over"]] * views)


def test_tables_sort_by_enter(opened: Browser) -> None:
    def column() -> list[float]:
        return each(opened, f"{NETWORK} .layers tbody tr", "Number(e.cells[1].dataset.value)")

    def order() -> list[str]:
        return each(opened, f"{NETWORK} .layers th[aria-sort]", "e.ariaSort")

    before, none = column(), ["none"] * 6
    focus(opened, ".layers th button", 1)
    opened.press(*ENTER)
    assert column() == sorted(before, reverse=True) and order() == ["none", "descending", *none]
    opened.press(*ENTER)
    assert column() == sorted(before) and order() == ["none", "ascending", *none]
    focus(opened, ".layers th button")
    opened.press(*ENTER)
    assert column() == before and order() == ["ascending", "none", *none]


def test_a_layer_is_looked_into(opened: Browser) -> None:
    def shown() -> list[str]:
        return each(opened, f"{NETWORK} .layer:not([hidden]) h3", "e.textContent")

    names = each(opened, f"{NETWORK} .costs a .name", "e.textContent")
    assert shown() == names[:1]
    focus(opened, f"{NETWORK} .costs a", 1)
    opened.press(*ENTER)
    assert shown() == names[1:2]
    focused = "document.activeElement.className"
    assert opened.run(focused) == "choose-layer"
    opened.press(*HOME)
    assert shown() == each(opened, f"{NETWORK} .choose-layer option", "e.textContent")[:1]


def test_networks_are_shown_one_at_a_time(opened: Browser) -> None:
    titles = each(opened, "input[name=network]", "e.dataset.title")
    assert set(each(opened, NETWORK, "e.dataset.of")) == {"0"}
    if not titles:
        return
    focus(opened, "input[name=network]")
    opened.press(*DOWN)
    assert set(each(opened, NETWORK, "e.dataset.of")) == {"1"}
    assert set(each(opened, ".tag.right", "e.textContent")) == {titles[1]}
    for alt in each(opened, ".errors img:not([hidden])", "e.alt"):
        assert f"error of {titles[1]}," in alt


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_a_telephone(opened: Browser, dark: bool) -> None:
    opened.size(360, 740, dark=dark, phone=True)
    assert opened.run("document.documentElement.scrollWidth") == 360
    wide = (
        "[...document.querySelectorAll('body *')].filter(e => e.getClientRects().length && "
        "!e.closest('.scroll, .stack, svg') && e.getBoundingClientRect().right > 360.5)"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert opened.run(wide) == []
    ground = opened.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in ground[4:-1].split(",")) < 380) == dark
    # Which layer costs most is on the first screen, with its bar.
    assert each(opened, ".ranking .bar", "e.getBoundingClientRect().bottom")[0] < 740
