"""The training loop."""

from __future__ import annotations

import io
import json
import math
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
from ptqsr.files import replacing
from ptqsr.images import unit_luma
from ptqsr.models import SRNetwork
from ptqsr.training import precision, processes
from ptqsr.training.config import TrainConfig
from ptqsr.training.data import TrainingPictures
from ptqsr.training.hooks import TrainingHook

STATE_VERSION = 1
# What a resumed run may do otherwise than the run it goes on with.
MAY_CHANGE = ("steps", "validate_every", "device", "precision")


class Trainer:
    """Trains a network on a folder's pictures and leaves in `run`:

    what the hook delivers (`weights.safetensors`: averaged weights, float32), `state.pt` (to
    resume) and `log.jsonl` (a line for every 100 steps and every validation). `network` is changed
    in place. Of several processes (`torchrun`) each takes its share of every batch, and the first
    alone validates and writes.
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
        self.device = _device(config.device)
        self.bf16, self.precision = precision.choose(config.precision, self.device)
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        if not isinstance(pictures, TrainingPictures):
            pictures = TrainingPictures(pictures, config, network.scale)
        self.pictures = pictures.identity
        self.sampler, self.validation = pictures.sampler, pictures.validation
        # channels_last is the layout that convolutions take without reordering, on both devices.
        network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.batch_size % processes.count():
            raise PtqsrError(
                f"batch_size is {config.batch_size}; {processes.count()} processes cannot share it "
                "equally"
            )
        self.colours = network.colours
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
        path = self.run / "state.pt"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = one_line(error)
            raise PtqsrError(f"{path}: no readable training state ({reason})") from None
        if not isinstance(state, dict) or "identity" not in state:
            raise PtqsrError(f"{path}: holds no training state; name the folder of a run")
        ours = self._identity()
        defaults = TrainConfig().to_json()  # of options that the state's ptqsr did not have
        theirs = {**defaults, **state["identity"], **{name: ours[name] for name in MAY_CHANGE}}
        for name in ours:
            if ours[name] != theirs.get(name):
                raise PtqsrError(
                    f"{path}: was made with {name} = {theirs.get(name)}, not {ours[name]}; "
                    "use the same options, or train into another folder"
                )
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
        self._cut_log()

    def train(self, progress: Callable[[dict[str, Any]], None] = lambda record: None) -> None:
        """Run all steps that are left; `progress` gets every record of the log."""
        self.run.mkdir(parents=True, exist_ok=True)
        began, loss_sum, since = time.monotonic() - self.seconds, 0.0, self.step
        first = processes.rank() == 0
        if self.step == 0:
            self.hook.initialise(self.network, self._inputs)
            self.average.load_state_dict(self.network.state_dict())
        # Steps of a run that was stopped before its first state are run, and logged, anew.
        mode = "a" if self.step else "w"
        with (
            open(self.run / "log.jsonl", mode, encoding="utf-8") if first else nullcontext()
        ) as log:
            while self.step < self.config.steps:
                loss, record = self._one_step()
                loss_sum += loss
                self.step += 1
                self.seconds = time.monotonic() - began
                validate = (
                    self.step % self.config.validate_every == 0 or self.step == self.config.steps
                )
                if self.step % 100 and not validate:
                    continue
                record = {
                    "step": self.step,
                    "seconds": round(self.seconds, 1),
                    "loss": loss_sum / (self.step - since),
                    **record,
                }
                loss_sum, since = 0.0, self.step
                if log is None:
                    continue
                if validate and self.validation:
                    record["validation_psnr"] = evaluate(self.average, self.validation).psnr
                log.write(_json_line(record))
                log.flush()
                if validate:
                    self._save()  # after the line: resuming drops the lines of unsaved steps
                progress(record)

    def _one_step(self) -> tuple[float, dict[str, Any]]:
        rate = self.config.learning_rate_at(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        lr, hr = (self._floats(processes.share(crop)) for crop in self.sampler.batch(self.step))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss, figures = self.parallel(lr, hr, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        self.hook.backward(self.network, loss)
        figures = {**figures, **(self.hook.edit_gradients(self.network, self.step) or {})}
        norm = clip_grad_norm_(self._trained(), self.config.clip)
        if not torch.isfinite(norm):
            raise PtqsrError(f"training diverged at step {self.step}; lower --learning-rate")
        self.optimiser.step()
        self._update_average()
        figures = processes.mean_figures({"loss": float(loss.detach()), **figures}, self.device)
        value = figures.pop("loss")
        return value, {"learning_rate": rate, "gradient_norm": float(norm), **figures}

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
        self.hook.deliver(self.average, self.run)
        state = {
            "identity": self._identity(),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "hook": self.hook.state_dict(),
        }
        # By way of memory, since torch.save turns a full disk into a RuntimeError of its own.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with replacing(self.run / "state.pt") as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def _identity(self) -> dict[str, Any]:
        """Return all that a state must agree in with the run that goes on from it."""
        architecture = {"architecture": self.network.architecture, **self.network.hyperparameters}
        data = {"pictures": self.pictures, **self.hook.identity()}
        return {"version": STATE_VERSION, **architecture, **data, **self.config.to_json()}

    def _cut_log(self) -> None:
        """Drop the lines of steps that ran after the state was saved: they run again."""
        path = self.run / "log.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if json.loads(line)["step"] > self.step:
                    break
            except (ValueError, TypeError, KeyError):
                break  # half a line: the run was killed while it wrote
            kept.append(line + "\n")
        with replacing(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")


class _Loss(nn.Module):
    """A step up to its loss, in the form of a module that processes can share."""

    def __init__(self, network: SRNetwork, hook: TrainingHook) -> None:
        super().__init__()
        self.network, self.hook = network, hook

    def forward(
        self, lr: torch.Tensor, hr: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
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


def _json_line(record: dict[str, Any]) -> str:
    """Return a line of the log; "inf" and "nan" are strings, since JSON has no numbers for them."""

    def plain(value: Any) -> Any:
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps({name: plain(value) for name, value in record.items()}) + "\n"
