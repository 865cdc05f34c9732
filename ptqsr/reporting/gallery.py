"""Windows of pictures with a divide to move, error maps, and maps of bits."""

from __future__ import annotations

from ptqsr.evaluation import fewest_and_most
from ptqsr.evaluation.bit_map import colour
from ptqsr.reporting.bits import BitMap
from ptqsr.reporting.markup import Markup, element, join
from ptqsr.reporting.measure import Measured
from ptqsr.reporting.pixels import data_uri, gradient, heat
from ptqsr.reporting.report import FLOAT, Report
from ptqsr.reporting.views import View
from ptqsr.reporting.words import bare, db


def gallery(report: Report) -> Markup:
    """Return the windows: two networks' pictures on top of each other, and the error map."""
    who = list(report.views[0].made)
    right = report.networks[0].subject.title
    choices = [
        element(
            "label",
            f"{side} ",
            element(
                "select",
                *(element("option", name, value=name, selected=name == chosen) for name in who),
                class_=f"choose-{side.lower()}",
            ),
        )
        for side, chosen in (("Left", FLOAT), ("Right", right))
    ]
    legend = element(
        "p",
        "Beside each its error: luma against the float network, 0 ",
        element("span", class_="gradient", style=f"background:{gradient()}"),
        f" {report.largest_error:.0f} grey levels and more.",
        class_="note",
    )
    return element(
        "section",
        element("h2", "Pictures"),
        element(
            "p",
            "Windows where quantization changes the picture most. Drag the divide, or move it with "
            "the arrow keys.",
            class_="note",
        ),
        element("p", *choices, class_="choice"),
        legend,
        *(_view(report, view, number, FLOAT, right) for number, view in enumerate(report.views)),
    )


def _view(report: Report, view: View, number: int, left: str, right: str) -> Markup:
    height, width = view.made[right].shape[:2]
    pictures = [
        element(
            "img",
            src=data_uri(picture),
            alt=f"{view.name}: {who}",
            width=width,
            height=height,
            data_who=who,
            class_={left: "under", right: "over"}.get(who),
            hidden=who not in (left, right),
        )
        for who, picture in view.made.items()
    ]
    slider = element(
        "input",
        type="range",
        min=0,
        max=100,
        value=50,
        aria_label=f"Divide in {view.name}, window {number + 1}",
    )
    stack = element(
        "div",
        *pictures,
        element("span", class_="divide", aria_hidden="true"),
        element("span", left, class_="tag left"),
        element("span", right, class_="tag right"),
        slider,
        class_="stack",
        style=f"aspect-ratio:{width}/{height}",
    )
    errors = [
        element(
            "img",
            src=data_uri(heat(error, report.largest_error)),
            alt=f"{view.name}: error of {who}, on average {error.mean():.2f} grey levels",
            width=width,
            height=height,
            data_error=place,
            hidden=place > 0,
        )
        for place, (who, error) in enumerate(view.errors.items())
    ]
    figures = ", ".join(f"{who} {db(value)}" for who, value in view.psnr.items())
    caption = join(
        element("strong", view.name),
        f" {width}x{height} pixels from {view.left}, {view.top}. PSNR here: {figures}",
    )
    return element(
        "figure",
        element("div", stack, element("div", *errors, class_="errors"), class_="pair"),
        element("figcaption", caption),
        class_="view",
    )


def bit_section(network: Measured) -> Markup:
    """Return the maps of a network that chooses its bits; nothing for others."""
    if not network.bit_maps:
        return Markup("")
    few, many = fewest_and_most(network.subject.quantized)
    maps = [_bit_map(found, few, many) for found in network.bit_maps]
    subject = network.subject
    legend = join(
        f"Mean bits of patches of {subject.patches} input pixels that overlap by "
        f"{subject.overlap}, over all layers; ",
        *(
            element("span", f"{bits}", class_="chip", style=_background(bits, few, many))
            for bits in range(few, many + 1)
        ),
        " bits.",
    )
    layers: dict[str, list[float]] = {}
    for found in network.bit_maps:
        for name, bits in found.layers.items():
            layers.setdefault(name, []).append(bits)
    rows = []
    for name, values in layers.items():
        bits = sum(values) / len(values)
        bar = element(
            "span",
            class_="bar",
            style=f"width:{100 * bits / many:.1f}%;" + _background(bits, few, many),
        )
        rows.append(
            element(
                "li",
                element("span", name, class_="name"),
                element("span", bar, class_="track", aria_hidden="true"),
                element("span", bare(bits), class_="value"),
                class_="row",
            )
        )
    return element(
        "section",
        element("h2", "Bits that patches and layers chose"),
        element("p", legend, class_="note"),
        element("div", *maps, class_="maps"),
        element("h3", "Mean bits of each layer's input"),
        element("ol", *rows, class_="ranking"),
    )


def _bit_map(found: BitMap, few: int, many: int) -> Markup:
    height, width = found.picture.shape[:2]
    letters = max(width, height) / 22
    marks = []
    for cell in found.cells:
        wide, tall = cell.right - cell.left, cell.bottom - cell.top
        place = {"x": cell.left, "y": cell.top, "width": wide, "height": tall}
        title = element("title", f"{cell.bits:.2f} bits")
        style = f"fill:rgb{colour(cell.bits, (few, many))}"
        marks.append(element("rect", title, style=style, class_="patch", **place))
        if wide > 2 * letters and tall > letters:
            middle = {"x": cell.left + wide / 2, "y": cell.top + tall / 2}
            label = f"{cell.bits:.1f}"
            marks.append(element("text", label, font_size=letters, class_="patch-bits", **middle))
    mean = f"{found.mean:.2f} bits on average"
    drawing = element(
        "svg",
        element("image", href=data_uri(found.picture), width=width, height=height),
        *marks,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"{found.name}: {len(found.patches.means)} patches, {mean}",
    )
    return element("figure", drawing, element("figcaption", f"{found.name}: {mean}"))


def _background(bits: float, few: int, many: int) -> str:
    return f"background:rgb{colour(bits, (few, many))}"
