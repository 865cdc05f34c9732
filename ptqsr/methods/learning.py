"""How one block learns to what its weights are rounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ptqsr.methods.dropping import Dropping
from ptqsr.methods.records import BlockRecord, Losses, Options
from ptqsr.methods.samples import Samples
from ptqsr.methods.soft import SoftBlock
from ptqsr.models import SRNetwork
from ptqsr.quantizers import SoftRounding, undecided

BATCH = 2  # whole crops an iteration
CHECK_EVERY = 50  # iterations
# AdaRound's schedule: nothing is pushed to 0 or 1 during the warm-up, then beta falls.
WARM_UP, BETAS = 0.2, (20.0, 2.0)
# Of the regulariser's mean, next to an error in units of that of rounding to nearest.
LAMBDA = 30.0
# Steps and biases are learned in relative units: see SoftConv2d and LearnedStep.
RATES = {
    "adaround": 3e-2,
    "nearest": 1e-2,
    "weight steps": 1e-3,
    "biases": 1e-3,
    "activation steps": 1e-3,
}
ORDER, MASKS = range(2)  # what random numbers are for


class Learning:
    """A block, the how many-th, what it learns from, and how far it has come."""

    def __init__(
        self,
        name: str,
        number: int,
        block: SoftBlock,
        training: Samples,
        held_out: Samples,
        options: Options,
    ) -> None:
        self.name, self.block, self.options = name, block, options
        self.training, self.held_out = training, held_out
        self.parameters = block.parameters()
        self.optimizer = torch.optim.Adam(
            [{"params": some, "lr": RATES[kind]} for kind, some in self.parameters.items()],
            fused=True,
        )
        self.draws = _generator(torch.device("cpu"), options.seed, number, ORDER)
        masks = _generator(training.device, options.seed, number, MASKS)
        self.dropping = Dropping(options.drop, masks) if options.drop else None

    def run(self, model: SRNetwork, show: Callable[[int], None]) -> BlockRecord:
        """Learn, give the network the result, and say what it was good for."""
        block, iterations = self.block, self.options.iterations
        block.round_to_nearest(model)
        nearest = self._losses()
        block.as_it_is()
        start = self._losses()
        best, kept, state = start.held_out, 0, None
        for iteration in range(1, iterations + 1):
            self._step(iteration - 1, nearest.training or 1.0)
            if iteration % CHECK_EVERY and iteration < iterations:
                continue
            show(iteration)
            if self.options.from_levels or iteration == iterations:
                block.harden()
                found = self._loss(self.held_out)
                if found < best or not self.options.from_levels:
                    best, kept, state = found, iteration, self._state()
        if state is None:  # nothing was better
            return BlockRecord(self.name, tuple(block.convs), nearest, start, start, 0, iteration)
        self._restore(state)
        block.commit()
        end = self._losses()
        return BlockRecord(self.name, tuple(block.convs), nearest, start, end, kept, iteration)

    @torch.enable_grad()
    def _step(self, iteration: int, scale: float) -> None:
        """Take one step; errors are in units of `scale`."""
        options, block = self.options, self.block
        done = iteration / options.iterations
        falling = 0.5 * (1 + math.cos(math.pi * done))
        for group, kind in zip(self.optimizer.param_groups, self.parameters, strict=True):
            # AdaRound has to harden to the end.
            group["lr"] = RATES[kind] * (1 if kind == SoftRounding.kind else falling)
        self.optimizer.zero_grad()
        block.soften()
        block.drop(self.dropping)
        loss = torch.zeros((), device=self.training.device)
        for number in torch.randint(len(self.training), (BATCH,), generator=self.draws).tolist():
            x, target, floating = self.training[number]
            if self.dropping is not None and floating is not None:
                x = self.dropping.mixed(x, floating)
            loss = loss + F.mse_loss(block(x), target) / (BATCH * scale)
        up = block.up()
        if up is not None and done >= WARM_UP:
            left = (1 - done) / (1 - WARM_UP)
            loss = loss + LAMBDA / up.numel() * undecided(
                up, BETAS[1] + (BETAS[0] - BETAS[1]) * left
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        block.confine()
        block.drop(None)

    @torch.no_grad()
    def _loss(self, samples: Samples) -> float:
        """Return the mean squared error over all samples, of the block as it convolves now."""
        errors = 0.0
        for number in range(len(samples)):
            sample = samples[number]
            errors += float(F.mse_loss(self.block(sample.given), sample.target))
        return errors / len(samples)

    def _losses(self) -> Losses:
        return Losses(self._loss(self.training), self._loss(self.held_out))

    def _all(self) -> list[torch.nn.Parameter]:
        return [p for some in self.parameters.values() for p in some]

    def _state(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self._all()]

    @torch.no_grad()
    def _restore(self, state: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self._all(), state, strict=True):
            parameter.copy_(value)
        self.block.harden()


def _generator(device: torch.device, *key: int) -> torch.Generator:
    """Return random numbers of their own for every key."""
    (seed,) = np.random.SeedSequence(key).generate_state(1)
    return torch.Generator(device).manual_seed(int(seed))
