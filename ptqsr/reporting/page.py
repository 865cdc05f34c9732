"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from ptqsr import __version__
from ptqsr.files import replacing
from ptqsr.reporting.details import layer_details, universal_section
from ptqsr.reporting.gallery import bit_section, gallery
from ptqsr.reporting.layers import layer_table
from ptqsr.reporting.markup import Markup, element, join
from ptqsr.reporting.measure import Measured
from ptqsr.reporting.overview import cards, comparison, ranking
from ptqsr.reporting.report import Report
from ptqsr.reporting.words import count


def page(report: Report) -> str:
    """Return the page: style, script and pictures are in it, and it may load nothing."""
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    policy += f"; script-src 'sha256-{digest}'"
    names = ", ".join(network.subject.title for network in report.networks)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{names}: quantization report"),
        element("style", Markup(style)),
    )
    script_element = element("script", Markup(script))
    body = element("body", _header(report), element("main", *_sections(report)), script_element)
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def write_page(report: Report, path: str | Path) -> int:
    """Write the page, whole or not at all; return its size in bytes."""
    data = page(report).encode(errors="replace")
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return len(data)


def _asset(name: str) -> str:
    return (files("ptqsr.reporting") / name).read_text(encoding="utf-8")


def _header(report: Report) -> Markup:
    first = report.networks[0].subject
    kinds = dict.fromkeys(
        f"{network.subject.quantized.title} x{network.subject.quantized.scale}"
        for network in report.networks
    )
    choice = Markup("")
    if len(report.networks) > 1:
        choice = element(
            "fieldset",
            element("legend", "Network"),
            *(
                element(
                    "label",
                    element(
                        "input",
                        type="radio",
                        name="network",
                        value=number,
                        checked=number == 0,
                        data_title=network.subject.title,
                    ),
                    f" {network.subject.title}",
                    element("small", network.subject.recipe),
                )
                for number, network in enumerate(report.networks)
            ),
            class_="networks",
        )
    else:
        kinds[f"{first.title}: {first.recipe}"] = None
    return element(
        "header",
        element("h1", "Quantization report"),
        element("p", " \N{MIDDLE DOT} ".join(kinds), class_="sub"),
        choice,
    )


def _sections(report: Report) -> list[Markup]:
    def of_each(make: Callable[[Measured, int], Markup]) -> list[Markup]:
        return [
            element("div", make(network, number), data_of=number, class_="of")
            for number, network in enumerate(report.networks)
        ]

    return [
        *of_each(lambda n, i: element("div", ranking(n, i), cards(n), class_="top")),
        comparison(report),
        gallery(report),
        *of_each(layer_table),
        *of_each(lambda n, i: layer_details(n, i, report)),
        *of_each(lambda n, i: join(universal_section(n), bit_section(n))),
        *of_each(lambda n, i: _how(n, report)),
    ]


def _how(network: Measured, report: Report) -> Markup:
    found, subject = network.sensitivities, network.subject
    number, size = report.crops
    alone = sum(loss.mse for loss in found.layers.values())
    items = [
        f"Compared with the float network of these weights: {subject.origin}.",
        f"Layers: {count(number, 'crop')} of {size}x{size} input pixels at random places of the "
        "pictures; distributions are those in the quantized network, of a layer that runs several "
        "times or reads windows of a crop those of the first.",
        f"Cost: each layer quantized alone in the float network, on {count(found.crops, 'crop')}; "
        "the mean squared difference of the output's luma to the float network's, unrounded, as a "
        f"part of the sum of all layers'. The sum is {alone:.3g} squared grey levels; all layers "
        f"at once make {found.together.mse:.3g}.",
        "PSNR drop: that error beside the float network's own against the pictures, to first "
        "order, so that drops of layers add up; ptqsr sensitivity measures the same. Crops that "
        "the float network gets nearly right weigh most in it.",
        "SQNR: 10 log10 of signal over squared error against the float network, over all crops. "
        "Input and output hold what all layers before lost.",
    ]
    if subject.fitted:
        items.append(
            f"{subject.quantized.calibration.method} fits weights to the other quantized layers: "
            "a layer alone may cost more than among these."
        )
    pictures = subject.provenance.get("pictures")
    if isinstance(pictures, list) and pictures:
        shown = ", ".join(str(name)[:60] for name in pictures[:4])
        more = f" and {len(pictures) - 4} more" if len(pictures) > 4 else ""
        items.append(f"Calibrated on crops of {shown}{more}.")
    written = subject.provenance.get("written")
    items.append(
        f"Checkpoint of {written}; report by ptqsr {__version__}."
        if isinstance(written, str)
        else f"Report by ptqsr {__version__}."
    )
    return element(
        "section",
        element("h2", "How it was measured"),
        element("ul", *(element("li", item) for item in items)),
        class_="how",
    )
