"""What each layer reads and holds, one shown at a time, and what all chose of the universal set."""

from __future__ import annotations

from ptqsr.reporting.charts import DRAWN_LEVELS, box_plot, ridge_plot, usage_plot, weight_plot
from ptqsr.reporting.distributions import Distribution
from ptqsr.reporting.markup import Markup, element
from ptqsr.reporting.measure import Measured
from ptqsr.reporting.report import Report
from ptqsr.reporting.words import bare, count, per_cent


def layer_details(network: Measured, number: int, report: Report) -> Markup:
    """Return the charts of every layer, of which one is shown at a time."""
    names = list(network.noise)
    worst = names.index(network.ranking[0])
    choice = element(
        "select",
        *(
            element("option", name, value=place, selected=place == worst)
            for place, name in enumerate(names)
        ),
        id=f"choose-{number}",
        class_="choose-layer",
    )
    details = [
        _details(network, name, f"layer-{number}-{place}", report)
        for place, name in enumerate(names)
    ]
    return element(
        "section",
        element("h2", "Into a layer"),
        element("p", element("label", "Layer ", for_=f"choose-{number}"), choice, class_="choice"),
        *details,
    )


def _details(network: Measured, name: str, id_: str, report: Report) -> Markup:
    found, weights = network.distributions[name], network.weights[name]
    crops = count(len(found.samples), "crop")
    levels = _levels(len(found.channels[0].levels))
    bits = network.subject.fake(name).weight_bits
    moved = (
        f" {per_cent(weights.moved)} are not on the level nearest to what they were."
        if weights.moved
        else ""
    )
    charts = [
        _figure(
            "Channels of one crop",
            f"Boxes are quartiles, whiskers reach to the extremes; beside them {levels}. From the "
            "channel of the smallest range to that of the largest.",
            box_plot(found.channels, "channel", f"{name}: activations of channels of one crop"),
        ),
        _figure(
            f"Channel {found.channel} in {crops}",
            f"The channel whose range changes most from crop to crop; beside it {levels}.",
            box_plot(found.samples, "crop", f"{name}: activations of a channel in {crops}"),
        ),
        _figure(
            "Distributions and levels",
            _about_ridges(found, report),
            ridge_plot(
                found,
                "(x \N{MINUS SIGN} mean) / scale" if found.universal else "activation",
                f"{name}: histograms of channels with their levels",
            ),
        ),
        _figure(
            "Weights before and after",
            f"Line: before; bars: after, {2**bits} levels a kernel; SQNR {bare(weights.db, 1)} dB."
            f"{moved}",
            weight_plot(weights, f"{name}: histogram of weights before and after"),
        ),
    ]
    return element(
        "article",
        element("h3", name),
        element("div", *charts, class_="charts"),
        id=id_,
        class_="layer",
        tabindex=-1,
    )


def _levels(number: int) -> str:
    if number > DRAWN_LEVELS:
        return f"the ends of the {number} levels"
    return f"the {number} levels"


def _about_ridges(found: Distribution, report: Report) -> str:
    channels = f"The same channels over {count(report.crops[0], 'crop')}"
    if found.universal:
        return (
            f"{channels}, each normalised by its mean and scale. Above the {len(found.universal)} "
            "values of the universal set; below each channel the points chosen of them. Heights "
            "are roots of counts."
        )
    return (
        f"{channels}, on one scale, with the levels of the first crop below each. Heights are "
        "roots of counts."
    )


def _figure(title: str, about: str, chart: Markup) -> Markup:
    return element("figure", element("figcaption", element("strong", title), " ", about), chart)


def universal_section(network: Measured) -> Markup:
    """Return how often each value of the universal set was chosen; nothing where there is none."""
    if network.usage is None:
        return Markup("")
    counts = network.usage.counts
    used = sum(n > 0 for n in counts.values())
    return element(
        "section",
        element("h2", "Universal set and points"),
        element(
            "p",
            f"How many channels of all layers chose each of the {len(counts)} values of "
            f"{network.usage.universal_set.name}. "
            f"{used} are used; small ticks below the axis are those that none chose.",
            class_="note",
        ),
        element(
            "div",
            element("figure", usage_plot(counts, "how often each value was chosen")),
            class_="charts single",
        ),
    )
