"""Options that several commands take: which network, how it is quantized, from which pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ptqsr import methods, models
from ptqsr.points import PRESETS

Model = Annotated[
    str | None,
    typer.Option(help=f"One of {', '.join(models.ARCHITECTURES)}; by default as the weights."),
]
NetworkScale = Annotated[int | None, typer.Option(help="2, 3 or 4; by default the weights' or 4.")]
Weights = Annotated[
    str,
    typer.Option(
        help="bundled, official (the authors', fetched), or a .pt, .pth, .safetensors, .npz: of "
        "the zoo, or of what spandrel knows."
    ),
]
Bits = Annotated[
    int | None, typer.Option(help="Bits of weights and activations, 2 to 8; by default 4.")
]
WeightBits = Annotated[int | None, typer.Option(help="Bits of weights.")]
ActBits = Annotated[int | None, typer.Option(help="Bits of activations.")]
Method = Annotated[
    str,
    typer.Option(
        help=f"One of {', '.join(methods.METHODS)}; dfsq is the paper's, dfsq+ loses less."
    ),
]
Percentile = Annotated[
    float, typer.Option(help="Cut off either tail, in per cent, by the method percentile.")
]
UniversalSet = Annotated[
    str | None,
    typer.Option(
        help=f"{', '.join(PRESETS)}, or a JSON file with a list of words.",
        show_default="dfsq-107; dfsq+ with 7 or 8 bits: int8",
    ),
]
Selector = Annotated[
    str | None,
    typer.Option(
        help="kmeans (the paper's) or optimal (exact, and faster).",
        show_default="kmeans; dfsq+ and ptqsr sensitivity: optimal",
    ),
]
Include = Annotated[
    list[str] | None, typer.Option(help="Quantize these layers too (name pattern).")
]
Exclude = Annotated[list[str] | None, typer.Option(help="Do not quantize these (name pattern).")]
Edges = Annotated[
    int | None, typer.Option(help="8: quantize head, upsampler, tail too, to 8 bits.")
]
Images = Annotated[
    Path | None,
    typer.Option(help="Folder of high-resolution pictures; by default scikit-learn's two."),
]
LowResolution = Annotated[
    bool, typer.Option(help="The pictures are network inputs: do not shrink them first.")
]
NumImages = Annotated[
    int | None,
    typer.Option(help="Calibration crops.", show_default="32; for block reconstruction 64"),
]
PatchSize = Annotated[int, typer.Option(help="Size of a crop in input pixels.")]
Seed = Annotated[int, typer.Option(help="Of crops, k-means and reconstruction.")]
TargetBits = Annotated[
    float | None,
    typer.Option(help="Choose bits layer by layer: a mean of so many, weighted by MACs."),
]
MaxDrop = Annotated[
    str | None,
    typer.Option(help="Choose the fewest bits that cost so much PSNR together, as 0.1dB."),
]
Candidates = Annotated[
    str | None, typer.Option(help="Bits to choose from, with commas; by default 3,4,6,8.")
]
SensitivityFile = Annotated[
    Path | None,
    typer.Option("--sensitivity", help="What `ptqsr sensitivity --json` measured, to choose by."),
]
