"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from ptqsr.errors import PtqsrError, one_line
from ptqsr.evaluation import evaluate
from ptqsr.images import unit_luma
from ptqsr.models import SRNetwork, digest_of
from ptqsr.training import log, precision, processes
from ptqsr.training.config import TrainConfig
from ptqsr.training.data import TrainingPictures
from ptqsr.training.hooks import Figures, Show, TrainingHook, silent
from ptqsr.training.log import Means
from ptqsr.training.state import (
    STATE,
    STATE_VERSION,
    check_same,
    read_state,
    write_state,
)

LOG = "log.jsonl"


class Diverged(PtqsrError):
    """The gradient is not finite any more."""


def check(network: SRNetwork, config: TrainConfig, hook: TrainingHook) -> None:
    """Raise PtqsrError where no such run can be, as far as it shows without pictures."""
    precision.choose(config.precision, _device(config.device), hook.autocasts)
    processes.check_share(config.batch_size)
    hook.check(network)


class Trainer:
    """Trains a network on a folder's pictures and leaves in `run`:

    what the hook delivers (`weights.safetensors`: averaged weights, float32), `state.pt` (to
    resume) and `log.jsonl` (a line for every 100 steps and every validation, with means over the
    steps since the last). `network` is changed in place. Of several processes (`torchrun`) each
    takes its share of every batch, and the first alone validates and writes. GPUs compute by
    cuDNN's deterministic algorithms, in the whole program from then on: a run that is resumed there
    is the run without the interruption.
    """

    def __init__(
        self,
        network: SRNetwork,
        pictures: list[Path] | TrainingPictures,
        config: TrainConfig,
        run: Path,
        hook: TrainingHook | None = None,
    ) -> None:
        self.config, self.run, self.hook = config, run, hook or TrainingHook()
        check(network, config, self.hook)
        self.device = _device(config.device)
        self.arithmetic = precision.choose(config.precision, self.device, self.hook.autocasts)
        self.arithmetic.use(self.device)
        if not isinstance(pictures, TrainingPictures):
            pictures = TrainingPictures(pictures, config, network.scale)
        self.pictures = pictures.identity
        self.sampler, self.validation = pictures.sampler, pictures.validation
        # channels_last is the layout that convolutions take without reordering, on both devices.
        network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.colours = network.colours
        self.weights = f"of digest {digest_of(network.state_dict())}"
        self.network = self.hook.begin(network, self._inputs(0)).train()
        self.parallel = processes.parallel(_Loss(self.network, self.hook), self.device)
        self.average = deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(
            self.hook.parameter_groups(self.network), lr=config.learning_rate
        )
        self.step = 0
        self.seconds = 0.0

    def resume(self) -> None:
        """Go on from `state.pt`, with as many steps in all as this run's configuration says.

        Raises PtqsrError where the state is unreadable or another run's. With the same options the
        result is that of a run without the interruption, bit for bit on the same machine.
        """
        path = self.run / STATE
        state = read_state(self.run)
        check_same(path, state["identity"], self.identity())
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
        except RuntimeError as error:
            # A method may look at the pictures to decide what it trains.
            raise PtqsrError(
                f"{path}: holds other tensors than this run's network ({one_line(error)}); "
                "go on where it was begun, with the same weights"
            ) from None
        self.optimiser.load_state_dict(state["optimiser"])
        self.hook.load_state_dict(state["hook"])
        self.step, self.seconds = state["step"], state["seconds"]
        processes.check_agreed(self.step, f"{path}: the step", self.device)
        if processes.rank() == 0:
            log.cut(self.run / LOG, self.step)

    def train(
        self,
        progress: Callable[[dict[str, Any]], None] = lambda record: None,
        show: Show = silent,
    ) -> None:
        """Run all steps that are left; `progress` gets every record of the log.

        `show` gets (what, done, total) of what there is to do before the first step. Raises
        Diverged where the gradient is not finite.
        """
        self.run.mkdir(parents=True, exist_ok=True)
        began, means = time.monotonic() - self.seconds, Means(self.device)
        first = processes.rank() == 0
        if self.step == 0:
            self.hook.initialise(self.network, self._inputs, show)
            processes.as_first(_tensors(self.network))
            self.average.load_state_dict(self.network.state_dict())
        # Steps of a run that was stopped before its first state are run, and logged, anew.
        mode = "a" if self.step else "w"
        with open(self.run / LOG, mode, encoding="utf-8") if first else nullcontext() as file:
            if self.step >= self.config.steps and first:
                self._deliver()  # somebody may have taken the result away
            while self.step < self.config.steps:
                rate = self.config.learning_rate_at(self.step)
                means.add(self._one_step(rate))
                self.step += 1
                self.seconds = time.monotonic() - began
                validate = (
                    self.step % self.config.validate_every == 0 or self.step == self.config.steps
                )
                if self.step % 100 and not validate:
                    continue
                record = {"step": self.step, "seconds": round(self.seconds, 1)}
                record |= {"learning_rate": rate, **means.take()}
                if file is None:
                    continue
                if validate and self.validation:
                    record["validation_psnr"] = evaluate(self.average, self.validation).psnr
                file.write(log.line(record))
                file.flush()
                if validate:
                    self._save()  # after the line: resuming drops the lines of unsaved steps
                progress(record)

    def _one_step(self, rate: float) -> Figures:
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        lr, hr = (self._floats(processes.share(crop)) for crop in self.sampler.batch(self.step))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.arithmetic.bf16):
            loss, figures = self.parallel(lr, hr, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        self.hook.backward(self.network, loss)
        figures = {**figures, **(self.hook.edit_gradients(self.network, self.step) or {})}
        norm = clip_grad_norm_(self._trained(), self.config.clip)
        if not torch.isfinite(norm):
            raise Diverged(f"training diverged at step {self.step}; lower --learning-rate")
        self.optimiser.step()
        self._update_average()
        return {"loss": loss, "gradient_norm": norm, **figures}

    def _floats(self, crops: torch.Tensor) -> torch.Tensor:
        """Return what the network takes of 8-bit pictures."""
        x = crops.to(self.device).float().div_(255).contiguous(memory_format=torch.channels_last)
        return unit_luma(x) if self.colours == "y" else x

    def _inputs(self, step: int) -> torch.Tensor:
        return self._floats(self.sampler.batch(step)[0])

    def _trained(self) -> list[torch.Tensor]:
        """Return the parameters that the optimiser changes: a method may have some of its own."""
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early on, a short memory: the average must not remember the random initialisation.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        # Not by names: a quantizer that several layers share has several.
        for ours, new in zip(_tensors(self.average), _tensors(self.network), strict=True):
            if ours.is_floating_point():
                ours.lerp_(new, 1 - decay)
            else:
                ours.copy_(new)  # counters

    def _save(self) -> None:
        self._deliver()
        state = {
            "identity": self.identity(),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "hook": self.hook.state_dict(),
        }
        write_state(self.run, state)

    def _deliver(self) -> None:
        made = {"step": self.step, **log.plain(self.identity())}
        self.hook.deliver(self.average, self.run, made)

    def identity(self) -> dict[str, Any]:
        """Return all that a state must agree in with the run that goes on from it."""
        architecture = {"architecture": self.network.architecture, **self.network.hyperparameters}
        data = {"weights": self.weights, "pictures": self.pictures, **self.hook.identity()}
        return {"version": STATE_VERSION, **architecture, **data, **self.config.to_json()}


class _Loss(nn.Module):
    """A step up to its loss, in the form of a module that processes can share."""

    def __init__(self, network: SRNetwork, hook: TrainingHook) -> None:
        super().__init__()
        self.network, self.hook = network, hook

    def forward(
        self, lr: torch.Tensor, hr: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Figures]:
        return self.hook.loss(self.network, lr, hr, step)


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise PtqsrError(f"device {name!r} is unknown; choose cpu, cuda, cuda:1, ...") from None
    if device.type not in ("cpu", "cuda"):
        raise PtqsrError(f"device {name!r} is not supported; choose cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise PtqsrError(f"device {name!r}: PyTorch finds no such GPU here; use cpu")
    return device
