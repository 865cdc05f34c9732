"""What a network loses when one of its layers is quantized alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from ptqsr.calibration import Image, Inputs
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.evaluation import cost
from ptqsr.images import luma, to_levels, to_tensor, unit_luma
from ptqsr.methods import Observed, Progress, method_of
from ptqsr.models import SRNetwork, device_of
from ptqsr.modules import replace
from ptqsr.plan import rules
from ptqsr.sensitivity.records import CANDIDATES, LayerSensitivity, Loss, Sensitivity

BATCH = 8
# A crop that the float network gets right counts as if it were off by this, in squared levels.
LEAST_ERROR = 1 / 12


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
    brecq and qdrop do besides is for all layers together. Losses are means over `pairs`, pictures
    (low, high resolution or None) uint8 [H, W, 3] of one size. With e^2 the squared error between
    both networks' luma and f^2 that of the float one against the true picture, independent errors
    cost 10 log10(1 + e^2/f^2) dB: `drop` is its first order, which adds up over layers.
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
    view = _View(seen.network, pairs)
    losses: dict[str, dict[int, Loss]] = {name: {} for name in wanted}
    edges = sum(rule.whole_range for rule in wanted.values())
    total = (len(wanted) - edges) * len(by_bits) + edges
    for several in by_bits.values():
        layers = seen.quantized(several)
        for name, rule in several.items():
            if rule.act_bits in losses[name]:
                continue  # edges have the same bits every time
            progress("layers alone", sum(map(len, losses.values())), total)
            place, fake = seen.layers[seen.names[name]], layers[seen.names[name]]
            replace(seen.network, {place: fake})
            losses[name][rule.act_bits] = view.loss(name)
            replace(seen.network, {fake: place})
    progress("layers alone", total, total)
    rows = tuple(
        LayerSensitivity(name, spent[name], not wanted[name].whole_range, losses[name])
        for name in wanted
    )
    return Sensitivity(f"{model.title} x{model.scale}", config.method, rows)


class _View:
    """What a network makes of some pictures, compared with what it made of them at first."""

    def __init__(
        self, network: SRNetwork, pairs: Sequence[tuple[np.ndarray, np.ndarray | None]]
    ) -> None:
        self.network = network
        x = torch.cat([to_tensor(low) for low, _ in pairs])
        self.inputs = (unit_luma(x) if network.colours == "y" else x).to(device_of(network))
        self.expected = self._luma()
        self.error: torch.Tensor | None = None
        true = [luma(to_levels(high)) for _, high in pairs if high is not None]
        if len(true) == len(pairs):
            cut = self._inside(torch.cat(true))
            self.error = _squares(self.expected - cut).clamp(min=LEAST_ERROR)

    def loss(self, name: str) -> Loss:
        mse = _squares(self._luma() - self.expected)
        if not mse.isfinite().all():
            raise PtqsrError(f"layer {name}: quantized alone it gives NaN or Inf")
        if self.error is None:
            return Loss(float(mse.mean()), None)
        return Loss(float(mse.mean()), float(10 / math.log(10) * (mse / self.error).mean()))

    def _luma(self) -> torch.Tensor:
        """Return the luma of the output in grey levels, not rounded, without its border."""
        made = torch.cat([self.network(x) for x in self.inputs.split(BATCH)])
        levels = made.clamp(0, 1).double().cpu() * 255
        return self._inside(levels if self.network.colours == "y" else luma(levels))

    def _inside(self, x: torch.Tensor) -> torch.Tensor:
        border = self.network.scale if min(x.shape[-2:]) > 2 * self.network.scale else 0
        return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


def _squares(x: torch.Tensor) -> torch.Tensor:
    """Return each picture's mean square: [N]."""
    return x.pow(2).flatten(1).mean(1)
