"""CADyQ's quantizer while it learns: candidates side by side, and a selector that picks one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ptqsr.quantizers import FEW_BITS, PatchGradient, SelectedQuantizer, by_choice, logits, width
from ptqsr.training.trainable.activations import MaxScaleQuantizer, TrainableQuantizer


class Selector(nn.Module):
    """One linear layer from what is known of a sample to K candidates (CADyQ, Eq. 5).

    weight: float32 [K, F], ones; bias: float32 [K], 0 but 1 for the last: it starts with the most
    bits, whatever it sees. `by`: a key of CHOICES. `gradient`: of the pictures, connected by
    `modules.sense`.
    """

    def __init__(self, candidates: int, channels: int, by: str) -> None:
        super().__init__()
        self.by = by
        self.weight = nn.Parameter(torch.ones(candidates, width(by, channels)))
        self.bias = nn.Parameter(torch.zeros(candidates))
        with torch.no_grad():
            self.bias[-1] = 1
        self.gradient = PatchGradient()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of the candidates for x [N, C, H, W], float32 [N, K]."""
        return logits(x, self.gradient, self.weight, self.bias, self.by)


class SelectingQuantizer(TrainableQuantizer):
    """Candidates with a max scale each, of which the selector takes one for each sample (Eq. 3).

    Forward it is the candidate of the highest probability, backward the sum of all, weighted by
    probability. `bits` are straight through too (Eq. 4): `choices` has, for every forward of the
    training since it was cleared, the chosen bits, float32 [N], whose gradient is that of the
    expected bits, and the expected bits, without a gradient.
    """

    def __init__(
        self,
        candidates: Sequence[int],
        selector: Selector,
        *,
        unsigned: bool = False,
        weights_follow: bool = False,
    ) -> None:
        super().__init__(max(candidates))
        self.candidates = nn.ModuleList(
            MaxScaleQuantizer(bits, unsigned=unsigned) for bits in candidates
        )
        self.selector = selector
        self.choices: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.weights_follow = weights_follow
        self.numbers: list[int] = []

    @property
    def quantizers(self) -> list[MaxScaleQuantizer]:
        return [q for q in self.candidates if isinstance(q, MaxScaleQuantizer)]

    def begin_as(self, taught: MaxScaleQuantizer) -> None:
        """Take the scale of a trained quantizer for every candidate."""
        for quantizer in self.quantizers:
            quantizer.begin_as(taught)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.selector(x)
        numbers = found.argmax(1)
        if self.weights_follow or not self.training:
            self.numbers = numbers.tolist()
        if not self.training:
            return by_choice(x, self.numbers, lambda n, some: self.candidates[n](some))
        probabilities = found.softmax(1)
        bits = found.new_tensor([float(q.bits) for q in self.quantizers])
        expected = (probabilities * bits).sum(1)
        chosen = expected + (bits[numbers] - expected).detach()
        self.choices.append((chosen, expected.detach()))
        return select(probabilities, numbers, [quantizer(x) for quantizer in self.quantizers])

    def few(self) -> list[bool] | None:
        if not self.weights_follow:
            return None
        return [self.quantizers[number].bits <= FEW_BITS for number in self.numbers]

    @torch.no_grad()
    def frozen(self) -> SelectedQuantizer:
        return SelectedQuantizer(
            [quantizer.frozen() for quantizer in self.quantizers],
            self.selector.weight.detach().clone(),
            self.selector.bias.detach().clone(),
            by=self.selector.by,
            weights_follow=self.weights_follow,
        )

    def extra_repr(self) -> str:
        return f"{' or '.join(str(q.bits) for q in self.quantizers)} bits"


class _Selected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, probabilities: torch.Tensor, numbers: torch.Tensor, *made: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(probabilities, *made)
        numbers = numbers.view(-1, 1, 1, 1)
        result = made[0]
        for number, other in enumerate(made[1:], 1):
            result = torch.where(numbers == number, other, result)
        return result.clone() if result is made[0] else result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        probabilities, *made = ctx.saved_tensors
        shares = [(gradient * one).flatten(1).float().sum(1) for one in made]
        weights = probabilities.to(gradient.dtype).T[:, :, None, None, None]
        return torch.stack(shares, 1), None, *(gradient * weight for weight in weights)


def select(
    probabilities: torch.Tensor, numbers: torch.Tensor, made: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return made[numbers[i]][i] for each sample i; made: K tensors [N, C, H, W].

    probabilities: float32 [N, K]; numbers: int64 [N], the places of their maxima. The gradients
    are those of the sum of all of `made`, weighted by probability (CADyQ, after Eq. 5).
    """
    return _Selected.apply(probabilities, numbers, *made)  # type: ignore[no-any-return]
