"""What bits are chosen by: the picture's gradient, and how the channels of a feature spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr import ops
from ptqsr.errors import PtqsrError

# What a choice may depend on: measures of the picture and of the feature. CADyQ, then layers alone
# and patches alone (Table 2), then other measures (Table 3, a to c).
CHOICES: dict[str, tuple[str | None, str | None]] = {
    "both": ("gradient", "channels"),
    "layer": (None, None),
    "patch": ("gradient", None),
    "range": ("range", "range"),
    "std": ("std", "std"),
    "layer-std": ("gradient", "std"),
}
# The columns of a picture's measures.
OF_PICTURES = {
    None: slice(0, 0), "gradient": slice(0, 2), "std": slice(2, 3), "range": slice(3, 4),
}  # fmt: skip
# Of red, green and blue (ITU-R BT.601).
GRAY = (0.299, 0.587, 0.114)
# Brings the gradient of pictures in [0, 1] to the size of the features' deviations.
GRADIENT_SCALE = 1000.0


class PatchGradient(nn.Module):
    """Measures of the pictures that go through a network now: `value`, float32 [N, 4].

    The gradients in x and y, and of the grey levels the standard deviation and the range.
    """

    def __init__(self) -> None:
        super().__init__()
        self.value: torch.Tensor | None = None

    @torch.no_grad()
    def look(self, pictures: torch.Tensor) -> None:
        """Take in a batch in [0, 1], [N, 3, H, W] or, of luma, [N, 1, H, W]."""
        self.value = measures(pictures)


def measures(pictures: torch.Tensor) -> torch.Tensor:
    """Return float32 [N, 4], see `PatchGradient`, of [N, 3 or 1, H, W] in [0, 1]."""
    levels = grey(pictures) * 255
    return torch.cat((mean_gradient(pictures), overall(levels), span(levels)), 1)


def mean_gradient(x: torch.Tensor) -> torch.Tensor:
    """Return 1000 times the mean of |d/dx| and |d/dy| of the grey picture, float32 [N, 2].

    x: [N, 3 or 1, H, W] in [0, 1]. By Sobel's operator over 8, so that a slope of s per pixel
    counts s; the border is repeated. |nabla I| of CADyQ, Eq. 5.
    """
    x = F.pad(grey(x), (1, 1, 1, 1), mode="replicate")
    across = x[..., 2:] - x[..., :-2]
    down = x[..., 2:, :] - x[..., :-2, :]
    across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    means = [part.abs().mean((1, 2, 3)) / 8 for part in (across, down)]
    return torch.stack(means, 1) * GRADIENT_SCALE


def width(by: str, channels: int) -> int:
    """Return F, how many numbers the selector of a tensor of so many channels sees."""
    picture, feature = CHOICES[by]
    columns = OF_PICTURES[picture]
    return columns.stop - columns.start + {None: 0, "channels": channels}.get(feature, 1)


def features(x: torch.Tensor, gradient: PatchGradient, by: str) -> torch.Tensor:
    """Return what the choice for each sample of x [N, C, H, W] depends on, float32 [N, F].

    Measures of the picture, by default its two gradients, then of the feature, by default every
    channel's standard deviation; without a gradient of their own. Raises PtqsrError where the
    picture is unknown.
    """
    picture, feature = CHOICES[by]
    x, pictures = x.detach(), gradient.value
    if picture is None or x.device.type == "meta":  # a sketch may have seen none
        pictures = x.new_empty((len(x), 4), dtype=torch.float32)
    if pictures is None or len(pictures) != len(x):
        raise PtqsrError(
            "layers that choose their bits by the picture run inside of their network alone"
        )
    found = {"channels": deviations, "std": overall, "range": span}[feature](x) if feature else None
    return _columns(by, pictures, found)


def features_of(
    by: str,
    pictures: torch.Tensor,
    first: torch.Tensor | None = None,
    second: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return what `features` does, but for rounding, of measures that are known already.

    pictures: float32 [N, 4], `measures`; first, second: float32 [N, C], of every channel of the
    feature mean and standard deviation, for a range its least and its largest value.
    """
    feature, found = CHOICES[by][1], None
    if feature is not None:
        assert first is not None and second is not None
        found = second
        if feature == "range":
            found = second.amax(1, keepdim=True) - first.amin(1, keepdim=True)
        elif feature == "std":
            apart = first - first.mean(1, keepdim=True)
            found = (second.square() + apart.square()).mean(1, keepdim=True).sqrt()
    return _columns(by, pictures, found)


def _columns(by: str, pictures: torch.Tensor, feature: torch.Tensor | None) -> torch.Tensor:
    columns = pictures[:, OF_PICTURES[CHOICES[by][0]]]
    return columns if feature is None else torch.cat((columns, feature), 1)


def grey(x: torch.Tensor) -> torch.Tensor:
    """Return the grey picture, float32 [N, 1, H, W], of one in colour or grey."""
    x = x.float()
    if x.shape[1] != 3:
        return x
    weights = x.new_empty(3) if x.device.type == "meta" else x.new_tensor(GRAY)
    return (x * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)


def overall(x: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of all values of a sample, [N, C, H, W] to [N, 1]."""
    values = x.float().flatten(1)
    return (values - values.mean(1, keepdim=True)).square_().mean(1, keepdim=True).sqrt()


def span(x: torch.Tensor) -> torch.Tensor:
    """Return the largest less the smallest value of a sample, [N, C, H, W] to [N, 1]."""
    values = x.float().flatten(1)
    return values.amax(1, keepdim=True) - values.amin(1, keepdim=True)


def deviations(x: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of every channel of x, float32 [N, C, H, W] to [N, C].

    Divided by H W, not one less.
    """
    return ops.channel_moments(x)[1]


def logits(
    x: torch.Tensor, gradient: PatchGradient, weight: torch.Tensor, bias: torch.Tensor, by: str
) -> torch.Tensor:
    """Return f(sigma(x), |nabla I|), float32 [N, K] (CADyQ, Eq. 5): the largest one chooses."""
    return scores(features(x, gradient, by), weight, bias)


def scores(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return the linear layer of features [N, F], float32 [N, K]."""
    # Not in bfloat16 where a network trains so: a choice must not depend on that.
    device = "cpu" if features.device.type == "meta" else features.device.type
    with torch.autocast(device, enabled=False):
        return F.linear(features, weight, bias)


def by_choice(
    x: torch.Tensor, numbers: Sequence[int], function: Callable[[int, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Return function(number, samples) of all samples [N, ...] with that number, put together.

    The samples that chose alike go through it together, and through nothing else.
    """
    kinds = sorted(set(numbers))
    if len(kinds) == 1:
        return function(kinds[0], x)
    made: torch.Tensor | None = None
    for kind in kinds:
        places = torch.tensor([i for i, n in enumerate(numbers) if n == kind], device=x.device)
        some = function(kind, _samples(x, places))
        if made is None:
            last = some.is_contiguous(memory_format=torch.channels_last)
            made = torch.empty(
                (len(x), *some.shape[1:]),
                dtype=some.dtype,
                device=some.device,
                memory_format=torch.channels_last if last else torch.contiguous_format,
            )
        made.index_copy_(0, places, some)
    assert made is not None
    return made


def _samples(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return some samples in the layout of x: index_select alone gives another."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).index_select(0, places).permute(0, 3, 1, 2)
    return x.index_select(0, places)
