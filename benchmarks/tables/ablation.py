"""DFSQ with parts taken away or changed: its Table 1 and Fig. 6, and what we changed.

    python -m benchmarks.tables.ablation --data ../shared/data --weights ../shared/weights --quick

One thing differs from DFSQ (k-means, dfsq-107) at a time. Table 1 has channel-wise points ("Cha.")
and normalisation ("Norm.") each there or not; what it calls none is values as they are, and we add
the fairer one, mean and largest magnitude of a sample's whole tensor. Fig. 6 has 2 to 5 words.
`--quick`: Set5 and Set14 only. Resumable: a row that the result file holds is not computed again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

import ptqsr
from benchmarks.tables.sweep import Sweep
from benchmarks.tables.variants import Variant, words
from ptqsr import Config
from ptqsr.models import SRNetwork

VARIANTS = {
    "DFSQ": Variant(),
    "one subset a tensor (Table 1: Norm.)": Variant(points="tensor"),
    "no normalisation (Table 1: Cha.)": Variant(normalisation="none"),
    "neither (Table 1: none)": Variant(points="tensor", normalisation="none"),
    "normalised by tensor": Variant(normalisation="tensor"),
    "normalised by tensor, one subset a tensor": Variant("tensor", "tensor"),
    "2 words, 29 values (Fig. 6)": Variant(words=words(2)),
    "3 words, 63 values (Fig. 6)": Variant(words=words(3)),
    "5 words, 157 values (Fig. 6)": Variant(words=words(5)),
    "sq-2word, 29 values": Variant(words="sq-2word"),
    "int8, 255 values": Variant(words="int8"),
    "dfsq-code, 377 values": Variant(words="dfsq-code"),
    "mean subtracted in all channels": Variant(mean=True),
}


def calibrate(
    variant: Variant, model: SRNetwork, crops: Sequence[np.ndarray], bits: int
) -> SRNetwork:
    with tempfile.TemporaryDirectory() as folder, variant.registered(Path(folder)) as options:
        return ptqsr.calibrate(model, crops, Config(bits=bits, **options))


SWEEP = Sweep(
    "ablation",
    networks=("IMDN x4 (authors')", "CARN-M x4 (authors')", "EDSR x4 (bundled)"),
    bits=(4, 3),
    variants={name: partial(calibrate, variant) for name, variant in VARIANTS.items()},
)

if __name__ == "__main__":
    SWEEP.main(__doc__)
