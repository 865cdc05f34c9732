"""Block reconstruction (BRECQ: Li et al., ICLR 2021): weights rounded so that blocks' outputs stay.

Block after block, in the order in which they run: what goes in is what the network quantized so far
gives, what should come out is what the float network's block makes of its own input.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from ptqsr.methods.cache import Cache
from ptqsr.methods.samples import Samples, collect, hold_out, pictures
from ptqsr.methods.soft import SoftBlock
from ptqsr.methods.threads import one_thread
from ptqsr.methods.units import calls
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import NearestRounding, SoftRounding, undecided

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

log = logging.getLogger("ptqsr")


@dataclass(frozen=True)
class Options:
    """How blocks are reconstructed.

    `drop`: of the activations and of the blocks' inputs, how many are left as they are in floating
    point, drawn anew every iteration (QDrop). `learned_steps`: the layers whose activation's step
    is learned. `from_levels`: ours, where rounding is good already. Levels stay until
    gradients have moved them by half a step (NearestRounding in place of AdaRound), weight steps
    and biases are learned too, and of the start and the states seen every 50 iterations a block
    keeps the one that loses least on held-out pictures.
    """

    iterations: int = 1000
    seed: int = 0
    drop: float = 0.0
    learned_steps: Sequence[str] = ()
    from_levels: bool = False


@dataclass(frozen=True)
class Losses:
    """Mean squared errors of a block's output: of the pictures it learns from, of held-out ones."""

    training: float
    held_out: float


@dataclass(frozen=True)
class BlockRecord:
    """What became of a block; `nearest`: rounded to nearest, the ranges those of the start.

    `kept`: of which iteration the end is; 0 is the start.
    """

    block: str
    layers: tuple[str, ...]
    nearest: Losses
    start: Losses
    end: Losses
    kept: int


@torch.inference_mode(False)
def reconstruct(
    network: SRNetwork,
    model: SRNetwork,
    blocks: Mapping[str, Sequence[str]],
    latents: Mapping[str, torch.Tensor],
    inputs: Iterable[torch.Tensor],
    options: Options,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[BlockRecord]:
    """Learn how a fake-quantized network's weights are rounded, in place.

    `model`: the same network in floating point. `blocks`: modules by name, and the quantized layers
    in each. `latents`: every layer's weight in units of its step, float32, as it was before it was
    rounded to nearest. Raises PtqsrError for fewer than two pictures: one in four is held out.
    """
    records = []
    learned_steps = list(options.learned_steps)
    held_out = hold_out(inputs, options.seed)
    with one_thread():
        with torch.no_grad():
            order = calls(model, blocks, next(pictures(inputs)))
        total = len(order) * options.iterations
        for number, (name, times) in enumerate(order.items()):

            def show(iteration: int, before: int = number * options.iterations) -> None:
                progress(before + iteration, total)

            show(0)
            block = SoftBlock(
                network,
                name,
                blocks[name],
                latents,
                NearestRounding if options.from_levels else SoftRounding,
                affine=options.from_levels,
                learned_steps=learned_steps,
            )
            with Cache() as cache:
                samples = collect(
                    cache,
                    network,
                    model,
                    name,
                    times,
                    inputs,
                    held_out,
                    with_float=options.drop > 0,
                )
                records.append(_Learning(name, block, *samples, options).run(model, show))
            # The step of a tensor that several blocks read is learned in the first of them.
            learned_steps = [n for n in learned_steps if not _reads(network, n, block)]
            _report(records[-1])
        progress(total, total)
    return records


def _reads(network: SRNetwork, layer: str, block: SoftBlock) -> bool:
    module = network.get_submodule(layer)
    return isinstance(module, FakeQuantConv2d) and module.quantizer in block.steps


def _report(record: BlockRecord) -> None:
    log.info("reconstruction: %s", json.dumps(asdict(record)))
    end, nearest = record.end.held_out, record.nearest.held_out
    if end >= nearest:
        log.warning(
            f"block {record.block}: its error on held-out pictures is {end:.3g}, by rounding to "
            f"nearest {nearest:.3g}; give more calibration pictures or more iterations"
        )


class _Learning:
    """A block, what it learns from, and how far it has come."""

    def __init__(
        self,
        name: str,
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
        self.draws = torch.Generator().manual_seed(options.seed)
        self.masks = torch.Generator(training.device).manual_seed(options.seed)

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
            return BlockRecord(self.name, tuple(block.convs), nearest, start, start, 0)
        self._restore(state)
        block.commit()
        end = self._losses()
        return BlockRecord(self.name, tuple(block.convs), nearest, start, end, kept)

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
        block.drop(self._kept_float if options.drop else None)
        loss = torch.zeros((), device=self.training.device)
        for number in torch.randint(len(self.training), (BATCH,), generator=self.draws).tolist():
            x, target, *wanted = self.training[number]
            if options.drop:
                x = torch.where(self._kept_float(x), wanted[0], x)
            loss = loss + F.mse_loss(block(x), target) / (BATCH * scale)
        up = block.up()
        if up is not None and done >= WARM_UP:
            left = (1 - done) / (1 - WARM_UP)
            loss = loss + LAMBDA / up.numel() * undecided(
                up, BETAS[1] + (BETAS[0] - BETAS[1]) * left
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        block.drop(None)

    def _kept_float(self, x: torch.Tensor) -> torch.Tensor:
        drawn = torch.rand(x.shape, generator=self.masks, device=x.device)
        return drawn < self.options.drop

    @torch.no_grad()
    def _loss(self, samples: Samples) -> float:
        """Return the mean squared error over all samples, of the block as it convolves now."""
        errors = 0.0
        for number in range(len(samples)):
            x, target = samples[number][:2]
            errors += float(F.mse_loss(self.block(x), target))
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
