"""The beginning of the page: which layer costs most, and the networks side by side."""

from __future__ import annotations

from collections.abc import Callable

from ptqsr.evaluation import OUTPUT_SIZE, Cost
from ptqsr.evaluation.units import bitops, parameters
from ptqsr.reporting.latency import DEPLOYED, FLOAT, SIDE, SIMULATED
from ptqsr.reporting.markup import Markup, element, join, table
from ptqsr.reporting.measure import Measured
from ptqsr.reporting.report import Report
from ptqsr.reporting.words import bare, count, db, lost, per_cent

RANKED = 10


def ranking(network: Measured, number: int) -> Markup:
    """Return the layers that cost most as bars, the first sentence saying which."""
    found, names = network.sensitivities, network.ranking
    order = list(network.noise)
    first, shown = names[0], names[:RANKED]
    largest = found.share(first) or 1.0
    rows = []
    for name in shown:
        share = found.share(name)
        place = order.index(name)
        rows.append(
            element(
                "li",
                element(
                    "a",
                    element("span", name, class_="name"),
                    _bar(share / largest, "bar"),
                    element("span", per_cent(share), class_="value"),
                    href=f"#layer-{number}-{place}",
                    data_layer=place,
                ),
            )
        )
    rest = names[RANKED:]
    if rest:
        share = sum(found.share(name) for name in rest)
        rows.append(
            element(
                "li",
                element("span", f"the other {count(len(rest), 'layer')}", class_="name"),
                element("span", per_cent(share), class_="value"),
                class_="rest row",
            )
        )
    together = sum(found.share(name) for name in shown)
    verdict = element(
        "p",
        element("strong", first),
        f" costs most: quantized alone it makes {per_cent(found.share(first))} of the error that "
        f"the {count(len(names), 'quantized layer')} put into the picture.",
        f" The first {len(shown)} make {per_cent(together, 0)}." if rest else "",
        class_="verdict",
    )
    return element(
        "section",
        element("h2", "Which layer costs most"),
        verdict,
        element("ol", *rows, class_="ranking"),
        class_="costs",
    )


def _bar(share: float, class_: str) -> Markup:
    inside = element("span", class_=class_, style=f"width:{100 * share:.1f}%")
    return element("span", inside, class_="track", aria_hidden="true")


def cards(network: Measured) -> Markup:
    """Return the four figures that people ask for first."""
    made = [
        _card("PSNR", db(network.after.psnr), lost(network.drop)),
        _card(
            "BitOPs",
            bitops(network.bitops_after),
            f"{per_cent(network.bitops_after / network.cost_before.bitops)} of float",
        ),
        _card(
            "Storage",
            f"{network.cost_after.storage_bytes / 1024:.0f} KiB",
            f"{per_cent(network.cost_after.storage_bytes / network.cost_before.storage_bytes)} "
            "of float",
        ),
    ]
    timings = network.latency.timings if network.latency else {}
    if DEPLOYED in timings:
        timing = timings[DEPLOYED]
        made.append(
            _card("Latency", f"{timing.median_ms:.0f} ms", f"{bare(timing.ratio)} of float's time")
        )
    return element("dl", *made, class_="cards")


def _card(title: str, value: str, more: str) -> Markup:
    inside = join(element("dt", title), element("dd", value), element("dd", more, class_="more"))
    return element("div", inside)


def comparison(report: Report) -> Markup:
    """Return the table of all networks, each beside its float one."""
    columns: list[tuple[str, str, Measured, bool]] = []
    for number, network in enumerate(report.networks):
        if report.floats.index(report.floats[number]) == number:
            columns.append((report.floats[number], network.subject.origin, network, True))
        columns.append((network.subject.title, network.subject.recipe, network, False))
    head = [
        element("th", title, element("small", detail), scope="col")
        for title, detail, _, _ in columns
    ]
    rows = [
        element(
            "tr",
            element("th", title, scope="row"),
            *(element("td", cell(network, before)) for _, _, network, before in columns),
        )
        for title, cell in _rows(report)
    ]
    networks = element("th", "network", scope="col")
    comparison = table([networks, *head], rows, "comparison")
    return element(
        "section",
        element("h2", "Summary"),
        element(
            "div",
            comparison,
            class_="scroll",
            tabindex=0,
            role="region",
            aria_label="Table: summary",
        ),
        element("p", *_notes(report), class_="note"),
    )


Cell = Callable[[Measured, bool], str]


def _rows(report: Report) -> list[tuple[str, Cell]]:
    """Return the rows: a title, and what a network has there, the float one if `before`."""

    def of(network: Measured, before: bool) -> Cost:
        return network.cost_before if before else network.cost_after

    rows: list[tuple[str, Cell]] = [
        ("PSNR", lambda n, before: db((n.before if before else n.after).psnr, 3)),
        ("loss of PSNR", lambda n, before: "" if before else db(n.drop, 3)),
        ("SSIM", lambda n, before: bare((n.before if before else n.after).ssim, 4)),
        (
            f"BitOPs, {OUTPUT_SIZE}",
            lambda n, before: bitops(n.cost_before.bitops if before else n.bitops_after),
        ),
        ("storage, float32 parameters", lambda n, before: parameters(of(n, before).storage)),
        ("storage, all", lambda n, before: f"{of(n, before).storage_bytes / 1024:.0f} KiB"),
        ("FQR, bits", lambda n, before: bare(of(n, before).fqr)),
    ]
    if any(network.latency for network in report.networks):

        def time(form: str) -> Cell:
            def cell(network: Measured, before: bool) -> str:
                timings = network.latency.timings if network.latency else {}
                return f"{timings[form].median_ms:.1f} ms" if form in timings else "none"

            return cell

        def latency(network: Measured, before: bool) -> str:
            return time(FLOAT if before else DEPLOYED)(network, before)

        rows.append((f"latency, {SIDE}x{SIDE} input", latency))
        rows.append(
            ("latency, simulated", lambda n, before: "" if before else time(SIMULATED)(n, before))
        )
    return rows


def _notes(report: Report) -> list[str]:
    notes = [
        f"PSNR and SSIM on luma of {report.pictures}; at the border as many pixels are cut as the "
        "network enlarges by. "
    ]
    timed = [network for network in report.networks if network.latency is not None]
    for network in timed[:1]:
        assert network.latency is not None
        notes.append(
            "Latency of quantized networks is in integers: the median of a few rounds on "
            f"{network.latency.where} of the machine that made this page. "
            "ptqsr benchmark measures it thoroughly. "
        )
    for network in timed:
        assert network.latency is not None
        for why in network.latency.missing.values():
            notes.append(f"{network.subject.title} does not run in integers: {why}. ")
    return notes
