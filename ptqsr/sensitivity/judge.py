"""How far a network's pictures are from those of the float network, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ptqsr.errors import PtqsrError
from ptqsr.images import luma, to_levels, to_tensor, unit_luma
from ptqsr.models import SRNetwork, device_of
from ptqsr.sensitivity.records import Loss

# A crop that the float network gets right counts as if it were off by this, in squared levels.
LEAST_ERROR = 1 / 12


def as_inputs(network: SRNetwork, pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Return pictures of one size as the network takes them: float32 [N, C, H, W], where it is."""
    x = torch.cat([to_tensor(picture) for picture in pictures])
    return (unit_luma(x) if network.colours == "y" else x).to(device_of(network))


class Judge:
    """Compares what quantized forms of a network give with what the float one gave.

    output: float [N, C, H, W] in [0, 1], of the float network; pictures: the true ones, uint8
    [H, W, 3], or None. With e^2 the squared error between both networks' luma and f^2 that of the
    float one against the true picture, independent errors cost 10 log10(1 + e^2/f^2) dB: the
    `drop` of a `Loss` is its first order, which adds up over layers.
    """

    def __init__(
        self, network: SRNetwork, output: torch.Tensor, pictures: Sequence[np.ndarray | None]
    ) -> None:
        self.colours, self.scale = network.colours, network.scale
        self.expected = self._luma(output)
        self.error: torch.Tensor | None = None
        true = [luma(to_levels(picture)) for picture in pictures if picture is not None]
        if len(true) == len(pictures):
            cut = self._inside(torch.cat(true))
            self.error = _squares(self.expected - cut).clamp(min=LEAST_ERROR)

    def loss(self, output: torch.Tensor, which: str) -> Loss:
        """Return the mean loss; raises PtqsrError, which begins as `which`, for NaN and Inf."""
        mse = _squares(self._luma(output) - self.expected)
        if not mse.isfinite().all():
            raise PtqsrError(f"{which} gives NaN or Inf")
        if self.error is None:
            return Loss(float(mse.mean()), None)
        return Loss(float(mse.mean()), float(10 / math.log(10) * (mse / self.error).mean()))

    def _luma(self, output: torch.Tensor) -> torch.Tensor:
        """Return luma in grey levels, not rounded, without the border."""
        levels = output.clamp(0, 1).double().cpu() * 255
        return self._inside(levels if self.colours == "y" else luma(levels))

    def _inside(self, x: torch.Tensor) -> torch.Tensor:
        border = self.scale if min(x.shape[-2:]) > 2 * self.scale else 0
        return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


def _squares(x: torch.Tensor) -> torch.Tensor:
    """Return each picture's mean square: [N]."""
    return x.pow(2).flatten(1).mean(1)
