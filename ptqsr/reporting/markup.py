"""HTML and SVG as text in which nothing is ever left unescaped by accident."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = ("img", "input", "meta")


class Markup(str):
    """Text that is markup already; all other text is escaped."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """Return <tag attributes>children</tag>.

    `_` in attribute names stands for `-`, at their end for nothing: class_, aria_label. True is an
    attribute without a value; None and False leave it out. Numbers have two decimals at most.

    >>> element("p", "a < b", element("br_"), class_="note", hidden=True)
    '<p class="note" hidden>a &lt; b<br_></br_></p>'
    """
    parts = [tag]
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(name)
        elif value is not None and value is not False:
            parts.append(f'{name}="{escape(plain(value))}"')
    inside = join(*children)
    opened = f"<{' '.join(parts)}>"
    return Markup(opened if tag in VOID else f"{opened}{inside}</{tag}>")


def table(head: Iterable[str], rows: Iterable[str], class_: str) -> Markup:
    """Return a table of the cells of its head, and of rows."""
    return element(
        "table",
        element("thead", element("tr", *head)),
        element("tbody", *rows),
        class_=class_,
    )


def join(*children: str) -> Markup:
    """Return children one after the other, those that are no markup escaped."""
    return Markup("".join(c if isinstance(c, Markup) else escape(c) for c in children))


def plain(value: object) -> str:
    """Return a value as an attribute has it: floats with two decimals at most."""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
