"""What a network loses when one of its layers is quantized alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from ptqsr.calibration import Image, Inputs
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.evaluation import cost
from ptqsr.methods import Observed, Progress, method_of
from ptqsr.models import SRNetwork, digest_of
from ptqsr.plan import rules
from ptqsr.sensitivity.judge import Judge, as_inputs
from ptqsr.sensitivity.records import CANDIDATES, LayerSensitivity, Loss, Sensitivity
from ptqsr.sensitivity.tape import Tape

BATCH = 8


@torch.inference_mode(False)
@torch.no_grad()
def sensitivity(
    model: SRNetwork,
    images: Image | Iterable[Image],
    pairs: Sequence[tuple[np.ndarray, np.ndarray | None]],
    config: Config,
    candidates: Sequence[int] = CANDIDATES,
    *,
    progress: Progress = lambda what, done, total: None,
) -> Sensitivity:
    """Return what every layer that `config` quantizes loses at each of the bit-widths.

    A layer has as many bits of weights as of activations; those of the edges have their own. All
    quantizers come from `images`, as for `calibrate`, the weights rounded to nearest: what dfsq+,
    brecq and qdrop do besides is for all layers together. Losses (`Judge`) are means over
    `pairs`, pictures (low, high resolution or None) uint8 [H, W, 3] of one size: a few, as what the
    float convolutions give for them is in memory.
    """
    if not pairs:
        raise PtqsrError("sensitivity: no pictures to measure on; give larger ones, or more")
    wanted = rules(model, config)
    spent = {layer.name: layer.macs for layer in cost(model).layers}
    by_bits = {
        bits: {n: r if r.whole_range else config.rule(bits, bits) for n, r in wanted.items()}
        for bits in sorted(set(candidates))
    }
    seen = Observed(
        model,
        Inputs(images, model),
        config,
        method_of(config),
        list(by_bits.values()),
        progress=progress,
    )
    x = as_inputs(seen.network, [low for low, _ in pairs])
    tapes = [Tape(seen.network, some, seen.layers) for some in x.split(BATCH)]
    output = torch.cat([tape.output for tape in tapes])
    judge = Judge(seen.network, output, [high for _, high in pairs])
    losses: dict[str, dict[int, Loss]] = {name: {} for name in wanted}
    edges = sum(rule.whole_range for rule in wanted.values())
    total = (len(wanted) - edges) * len(by_bits) + edges
    for several in by_bits.values():
        layers = seen.quantized(several)
        for name, rule in several.items():
            if rule.act_bits in losses[name]:
                continue  # edges have the same bits every time
            progress("layers alone", sum(map(len, losses.values())), total)
            path = seen.names[name]
            output = torch.cat([tape.with_layer(path, layers[path]) for tape in tapes])
            losses[name][rule.act_bits] = judge.loss(output, f"layer {name}: quantized alone it")
    progress("layers alone", total, total)
    rows = tuple(
        LayerSensitivity(name, spent[name], not wanted[name].whole_range, losses[name])
        for name in wanted
    )
    weights = digest_of(model.state_dict())
    return Sensitivity(f"{model.title} x{model.scale}", weights, config.method, rows)
