"""The table of layers."""

from __future__ import annotations

from ptqsr.reporting.markup import Markup, element, join, table
from ptqsr.reporting.measure import Measured
from ptqsr.reporting.words import bare, per_cent

# Titles, and what they mean.
COLUMNS = (
    ("layer", "In the order in which they run."),
    ("cost", "Its part in the error of all layers, each quantized alone."),
    ("PSNR drop", "dB, with this layer alone quantized; to first order, so that it adds up."),
    ("input SQNR", "Of what it multiplies, dB, all layers quantized."),
    ("output SQNR", "Of what it gives, dB, all layers quantized."),
    ("weight SQNR", "Of its weights, dB."),
    ("bits", "Of weights and activations."),
    ("work", "Its part of the network's multiplications."),
)


def layer_table(network: Measured, number: int) -> Markup:
    """Return the table of layers that sorts by every column."""
    head = [
        element(
            "th",
            element(
                "button",
                title,
                element("span", class_="arrow", aria_hidden="true"),
                type="button",
                title=meaning,
            ),
            scope="col",
            aria_sort="ascending" if place == 0 else "none",
        )
        for place, (title, meaning) in enumerate(COLUMNS)
    ]
    found = network.sensitivities
    largest = max((found.share(name) for name in found.layers), default=0) or 1.0
    bits = {layer.name: (layer.weight_bits, layer.act_bits) for layer in network.cost_after.layers}
    rows = []
    for place, name in enumerate(network.noise):
        noise, share = network.noise[name], found.share(name)
        track = element("span", class_="bar", style=f"width:{100 * share / largest:.1f}%")
        weight_bits, act_bits = bits[name]
        cells = [
            _cell(
                join(
                    element("span", track, class_="track", aria_hidden="true"),
                    element("span", per_cent(share), class_="share"),
                ),
                share,
                "cost",
            ),
            _cell(bare(found.drop(name), 4), found.drop(name)),
            _cell(bare(noise.input_db, 1), noise.input_db),
            _cell(bare(noise.output_db, 1), noise.output_db),
            _cell(bare(network.weights[name].db, 1), network.weights[name].db),
            _cell(f"W{weight_bits:.3g} A{act_bits:.3g}", weight_bits * act_bits),
            _cell(per_cent(network.macs[name]), network.macs[name]),
        ]
        link = element("a", name, href=f"#layer-{number}-{place}", data_layer=place)
        head_cell = element("th", link, scope="row", data_value=place)
        rows.append(element("tr", head_cell, *cells))
    layers = table(head, rows, "layers")
    return element(
        "section",
        element("h2", "Layers"),
        element(
            "p",
            "Choose a heading to sort by it, a layer to look into it. Cost and PSNR drop are those "
            "of the layer quantized alone; SQNR is in dB, with all layers quantized.",
            class_="note",
        ),
        element(
            "div", layers, class_="scroll", tabindex=0, role="region", aria_label="Table: layers"
        ),
    )


def _cell(content: str, value: float, class_: str | None = None) -> Markup:
    # As JavaScript reads it.
    number = repr(float(value)).replace("inf", "Infinity")
    return element("td", content, data_value=number, class_=class_)
