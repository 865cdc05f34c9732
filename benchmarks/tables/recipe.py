"""What each ingredient of dfsq+ gives, and what was left out of it.

    python -m benchmarks.tables.recipe --data ../shared/data --weights ../shared/weights --quick

From DFSQ on ingredient by ingredient, then dfsq+ without each, then dfsq+ with what else might
help: channel maxima that are clipped where that loses less, samples that count by their scale when
points are chosen, other universal sets (at 8 bits, where dfsq+ has another than DFSQ, those alone),
fewer crops. To weigh a whole channel's loss by its effect on the output would change nothing: every
channel has points of its own, as many as every other.
`--quick`: Set5 and Set14 only. Resumable: a row that the result file holds is not computed again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

import ptqsr
from benchmarks.tables.sweep import Make, Sweep
from benchmarks.tables.variants import Variant
from ptqsr import Config
from ptqsr.calibration import Inputs
from ptqsr.methods.refine import Ingredients, refine
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d

ALL = Ingredients()
DFSQ_PLUS, PAPER_SET_KEPT = "and target: dfsq+", "dfsq+, dfsq-107"
NOTHING = Ingredients(target=False, ranges=False, compensation=False, bias=False)


@dataclass(frozen=True)
class Recipe:
    """`universal_set`: None is dfsq+'s own at these bits. `crops`: of those that the network is
    calibrated on, the first so many.
    """

    ingredients: Ingredients = ALL
    selector: str = "optimal"
    universal_set: str | None = None
    clipped: bool = False
    weighted: bool = False
    crops: int | None = None

    def __call__(self, model: SRNetwork, crops: Sequence[np.ndarray], bits: int) -> SRNetwork:
        used = list(islice(crops, self.crops))
        words = self.universal_set or Config(method="dfsq+", bits=bits).body.universal_set
        variant = Variant(words=words, clipped=self.clipped, weighted=self.weighted)
        with variant.registered(Path()) as options:
            config = Config(bits=bits, selector=self.selector, **options)
            network = ptqsr.calibrate(model, used, config)
        if self.ingredients != NOTHING:
            names = [n for n, m in network.named_modules() if isinstance(m, FakeQuantConv2d)]
            inputs = Inputs(used, network)
            refine(
                network, copy.deepcopy(model).eval(), names, inputs, ingredients=self.ingredients
            )
        return network


RECIPES: dict[str, Make] = {
    "DFSQ, k-means": Recipe(NOTHING, selector="kmeans", universal_set="dfsq-107"),
    "exact points": Recipe(NOTHING, universal_set="dfsq-107"),
    "and ranges that lose least": Recipe(Ingredients(target=False, compensation=False, bias=False)),
    "and bias": Recipe(Ingredients(target=False, compensation=False)),
    "and compensation": Recipe(Ingredients(target=False)),
    DFSQ_PLUS: Recipe(),
    "dfsq+ with k-means points": Recipe(selector="kmeans"),
    "dfsq+ with [min, max] ranges": Recipe(Ingredients(ranges=False)),
    "dfsq+ without compensation": Recipe(Ingredients(compensation=False)),
    "dfsq+ without bias": Recipe(Ingredients(bias=False)),
    "bias alone": Recipe(Ingredients(target=False, ranges=False, compensation=False)),
    "dfsq+ with clipped maxima": Recipe(clipped=True),
    "dfsq+ with samples weighted by scale": Recipe(weighted=True),
    PAPER_SET_KEPT: Recipe(universal_set="dfsq-107"),
    "dfsq+, sq-2word": Recipe(universal_set="sq-2word"),
    "dfsq+, int8": Recipe(universal_set="int8"),
    "dfsq+, dfsq-code": Recipe(universal_set="dfsq-code"),
    "dfsq+ on 1 crop": Recipe(crops=1),
    "dfsq+ on 4 crops": Recipe(crops=4),
    "dfsq+ on 8 crops": Recipe(crops=8),
}

SWEEP = Sweep(
    "recipe",
    networks=(
        "IMDN x4 (authors')",
        "IDN x4 (authors', luma)",
        "CARN-M x4 (authors')",
        "EDSR x4 (bundled)",
    ),
    bits=(8, 4, 3),
    variants=RECIPES,
    # Up to 6 bits the universal set is dfsq-107 anyway.
    some={
        8: ("exact points", DFSQ_PLUS, PAPER_SET_KEPT),
        4: (below := [name for name in RECIPES if name != PAPER_SET_KEPT]),
        3: below,
    },
)

if __name__ == "__main__":
    SWEEP.main(__doc__)
