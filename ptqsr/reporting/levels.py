"""Which values an activation may become, in the units of the activation."""

from __future__ import annotations

import torch

from ptqsr import ops
from ptqsr.quantizers import (
    ActivationQuantizer,
    OffsetQuantizer,
    SelectedQuantizer,
    SubsetQuantizer,
    UniformQuantizer,
)


def levels_of(quantizer: ActivationQuantizer, x: torch.Tensor) -> torch.Tensor:
    """Return the levels of every channel of one sample x [1, C, H, W]: float32 [C, L], ascending.

    Of a quantizer that chooses its bits: those that its last forward, of x alone, chose.
    """
    if isinstance(quantizer, SelectedQuantizer):
        quantizer = quantizer.candidate(quantizer.numbers[0])
    if isinstance(quantizer, UniformQuantizer):
        steps = (
            torch.arange(quantizer.levels, dtype=torch.float32, device=x.device) + quantizer.lowest
        )
        levels = (steps * quantizer.step).expand(x.shape[1], -1)
        return as_given(quantizer, levels[None, :, :, None])[0, :, :, 0]
    found, start = [], 0
    for part in quantizer.parts:
        assert isinstance(part, SubsetQuantizer)
        piece = x.narrow(1, start, len(part.points))
        mean, scale = normalisation_of(part, piece)
        found.append(part.points * (scale / part.universal_set.denominator).T + mean.T)
        start += len(part.points)
    return torch.cat(found)


def normalisation_of(part: SubsetQuantizer, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (mean, scale), float32 [N, C], by which x [N, C, H, W] is normalised."""
    return ops.normalisation(*ops.channel_stats(x), part.nonnegative)


def normalised(quantizer: ActivationQuantizer, x: torch.Tensor) -> torch.Tensor | None:
    """Return (x - mean) / scale in [-1, 1] where the quantizer normalises; None where not.

    0 where the scale is 0.
    """
    if not isinstance(quantizer.parts[0], SubsetQuantizer):
        return None
    found, start = [], 0
    for part in quantizer.parts:
        assert isinstance(part, SubsetQuantizer)
        piece = x.narrow(1, start, len(part.points))
        mean, scale = (value[..., None, None] for value in normalisation_of(part, piece))
        found.append(torch.where(scale > 0, (piece - mean) / scale, torch.zeros_like(piece)))
        start += len(part.points)
    return torch.cat(found, 1)


def as_given(quantizer: ActivationQuantizer, read: torch.Tensor) -> torch.Tensor:
    """Return what a convolution reads, [N, C, H, W], in the units of what the quantizer was given.

    They differ where channels are shifted and scaled first (OffsetQuantizer); a channel scaled by
    0 is where its shift puts it.
    """
    if not isinstance(quantizer, OffsetQuantizer):
        return read
    shift, gain = quantizer.values("shift"), quantizer.values("gain")
    if gain is not None:
        read = torch.where(gain != 0, read / gain, torch.zeros_like(read))
    return read if shift is None else read - shift
