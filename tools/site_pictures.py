"""Draw what docs/how-dfsq-works.md shows, and write its table.

    python tools/site_pictures.py

All of it is of the bundled EDSR x4 and the crops that `ptqsr calibrate` takes by default: it is
calibrated to 4 bits by every method of the table, and errors are those of what its layers read on
the crops that are held out. Takes minutes; needs matplotlib (`pip install "ptqsr[chart]"`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import ptqsr  # noqa: E402
from ptqsr import models, ops  # noqa: E402
from ptqsr.calibration import NormalisedHistogram  # noqa: E402
from ptqsr.config import PAPER_SET  # noqa: E402
from ptqsr.images import cut, downscale, sample_photographs, to_tensor  # noqa: E402
from ptqsr.models import SRNetwork, observing  # noqa: E402
from ptqsr.modules import quantizable  # noqa: E402
from ptqsr.points import UniversalSet  # noqa: E402
from tools import site_drawing as drawing  # noqa: E402
from tools.result_tables import put  # noqa: E402

PAGE, FOLDER = ROOT / "docs" / "how-dfsq-works.md", ROOT / "docs" / "pictures"
SIZE, CROPS, HELD_OUT, SEED = 48, 32, 16, 0  # as `ptqsr calibrate`
BITS = 4
LEVELS = 1 << BITS
METHODS = {
    "MinMax": {"method": "minmax"},
    "percentile": {"method": "percentile"},
    "DFSQ, k-means": {"selector": "kmeans"},
    "DFSQ, optimal": {"selector": "optimal"},
}
# What a layer reads from the layers before its block, and one behind a ReLU; channels to show.
SIGNED, POSITIVE = "body.0.body.0", "body.0.body.2"
SHOWN = slice(0, 60, 5)


def pictures() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the network's inputs [1, 3, 48, 48]: to calibrate on, and held out."""
    crops = cut(sample_photographs(), size=4 * SIZE, count=CROPS, held_out=HELD_OUT, seed=SEED)
    seen, apart = ([to_tensor(downscale(crop, 4)[0]) for crop in some] for some in crops)
    return seen, apart


@torch.no_grad()
def readings(
    model: SRNetwork, names: Iterable[str], inputs: list[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return what layers read, float32 [N, C, H, W] by the layer's name."""
    read: dict[str, torch.Tensor] = {}
    layers = {name: model.get_submodule(name) for name in names}
    with observing(layers, lambda name, x: read.update({name: x.clone()})):
        model(torch.cat(inputs))
    return read


@torch.no_grad()
def noise_ratio(x: torch.Tensor, quantized: torch.Tensor) -> float:
    """Return SQNR in dB: the variance of x over the mean squared error."""
    error = (quantized - x).double().square().mean()
    return float(10 * torch.log10(x.double().var(unbiased=False) / error))


def draw_normalisation(x: torch.Tensor, minmax: SRNetwork) -> None:
    quantizer = minmax.get_submodule(SIGNED).quantizer
    sample = x[:1, SHOWN]
    mean, scale = ops.channel_statistics(sample, torch.zeros(sample.shape[1], dtype=torch.bool))
    normalised = (sample - mean[..., None, None]) / scale[..., None, None]
    levels = (torch.arange(LEVELS) + quantizer.lowest) * quantizer.step
    picture = drawing.normalisation(sample[0], normalised[0], levels)
    drawing.write(FOLDER / "normalisation", picture, 4.4)


def draw_points(model: SRNetwork, network: SRNetwork, seen: list[torch.Tensor]) -> None:
    """Draw the universal set, what the first channel of two tensors holds, and its points."""
    counts, points = {}, {}
    for label, layer in (("signed", SIGNED), ("after ReLU", POSITIVE)):
        quantizer = network.get_submodule(layer).quantizer
        denominator = quantizer.universal_set.denominator
        histogram = NormalisedHistogram(quantizer.nonnegative, denominator)
        histogram.update(readings(model, [layer], seen)[layer])
        counts[label] = histogram.counts[0].unflatten(0, (-1, histogram.bins_per_step)).sum(1)
        points[label] = quantizer.points[0] / denominator
    values = torch.from_numpy(UniversalSet.preset(PAPER_SET).values)
    rows = {
        f"universal set, {len(values)}": (values, drawing.VALUES),
        **{f"{label}, {LEVELS}": (some, drawing.POINTS) for label, some in points.items()},
        f"uniform, {LEVELS}": (torch.linspace(-1, 1, LEVELS), drawing.OTHERS),
    }
    drawing.write(FOLDER / "universal-set", drawing.sets(rows), 2.2)
    drawing.write(FOLDER / "points", drawing.distributions(counts, points), 3.6)


def table(found: dict[str, list[float]]) -> str:
    rows = ["| method | least | mean | largest |", "| --- | --- | --- | --- |"]
    for name, decibels in found.items():
        mean = sum(decibels) / len(decibels)
        rows.append(f"| {name} | {min(decibels):.1f} | {mean:.1f} | {max(decibels):.1f} |")
    return "\n".join(rows)


def main() -> None:
    model = models.build("edsr")
    seen, apart = pictures()
    networks = {
        name: ptqsr.calibrate(model, seen, ptqsr.Config(bits=BITS, **options))
        for name, options in METHODS.items()
    }
    read = readings(model, quantizable(model), apart)
    found = {
        name: [noise_ratio(x, network.get_submodule(at).quantizer(x)) for at, x in read.items()]
        for name, network in networks.items()
    }
    FOLDER.mkdir(exist_ok=True)
    draw_normalisation(read[SIGNED], networks["MinMax"])
    draw_points(model, networks["DFSQ, optimal"], seen)
    drawing.write(FOLDER / "errors", drawing.errors(found), 4.6)
    print(table(found))
    PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), "errors", table(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
