"""QDrop (Wei et al., ICLR 2022): what stays in floating point while a block learns."""

from __future__ import annotations

import torch


class Dropping:
    """Draws which values are not quantized: each by itself, with the probability `part`.

    A value of the block's input is drawn once. It is the float network's and no layer quantizes
    it, or it is the quantized network's and the layers that read that very tensor quantize it.
    """

    def __init__(self, part: float, generator: torch.Generator) -> None:
        self.part, self.generator = part, generator
        self._input: torch.Tensor | None = None
        self._of_input = torch.empty(0)

    def mixed(self, quantized: torch.Tensor, floating: torch.Tensor) -> torch.Tensor:
        """Return a block's input, of those that it has in the two networks."""
        self._of_input = self._drawn(quantized)
        self._input = torch.where(self._of_input, floating, quantized)
        return self._input

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return which values of a layer's input are not quantized: bool, the same shape."""
        return self._of_input if x is self._input else self._drawn(x)

    def _drawn(self, x: torch.Tensor) -> torch.Tensor:
        return torch.rand(x.shape, generator=self.generator, device=x.device) < self.part
