"""A row of the training-aware methods: a run in a folder of its own, which goes on where it was."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import ptqsr
from benchmarks.tables.results import Row, origin
from benchmarks.tables.runs import RUNS, Run, network_of
from benchmarks.tables.tuning_records import read_run, steps_done, tell, variance_weight
from ptqsr import Config
from ptqsr.evaluation import evaluate
from ptqsr.images import list_images
from ptqsr.models import SRNetwork
from ptqsr.training import TrainConfig, Trainer
from ptqsr.training.config import Precision
from ptqsr.training.data import TrainingPictures
from ptqsr.training.hooks import Batches, Show
from ptqsr.training.methods import CHECKPOINT, METHODS, PAMS, Options, Selection
from ptqsr.training.methods.variance import choose_variance_weight
from ptqsr.training.trainable import MaxScaleQuantizer, quantizers_of

# Largest alpha of a random start (PAMS, Table 5), in the networks' units: grey levels.
MOST = 128.0
PRECISION: Precision = "fp32"


def origin_of_runs() -> Row:
    """Return what a row of a training run depends on."""
    tables = "benchmarks/tables"
    return origin("ptqsr/training", f"{tables}/runs.py", f"{tables}/tuning.py")


@dataclass(frozen=True)
class Scale:
    """What all rows have in common. `bit_weight`: CADyQ's w_reg at the start."""

    steps: int
    batch: int
    patch: int
    learning_rate: float
    range_learning_rate: float
    bit_weight: float
    seed: int

    def of(self, run: Run) -> Scale:
        """Return that of one run."""
        rate, ranges = run.rates or (self.learning_rate, self.range_learning_rate)
        weight = run.selection.get("bit_weight", self.bit_weight)
        steps = max(1, self.steps // run.part)
        return replace(
            self, steps=steps, learning_rate=rate, range_learning_rate=ranges, bit_weight=weight
        )

    def settings(self, run: Run) -> Row:
        """Return what a row says of it."""
        found = {**asdict(self.of(run)), "precision": PRECISION}
        if run.method != "cadyq":
            del found["bit_weight"]
        return found if run.trained else {}


class Workshop:
    """Trains runs in folders of `work`, by the code that a run's row is of, or by today's.

    `code_of`: that of the rows that are there.
    """

    def __init__(
        self,
        work: Path,
        data: Path,
        weights: Path,
        scale: Scale,
        validate_every: int,
        code_of: Callable[[str], str | None],
    ) -> None:
        self.work, self.data, self.weights = work, data, weights
        self.scale, self.validate_every, self.code_of = scale, validate_every, code_of
        self._pictures: dict[int, TrainingPictures] = {}

    def network(self, name: str) -> SRNetwork:
        """Return a row's network, made as far as it is not there yet."""
        run, source = RUNS[name], network_of(RUNS[name])
        if run.trained:
            return ptqsr.load(self.finished(name) / CHECKPOINT)
        model = source.build(self.weights)
        if run.method == "float":
            return model
        config = Config(method=run.method, bits=run.bits)
        return ptqsr.calibrate(model, source.crops(self.data), config)

    def folder(self, name: str) -> Path:
        run = RUNS[name]
        made_by = self.code_of(name)
        code = made_by or origin_of_runs()["code"]
        digest = hashlib.sha256(repr((run, self.scale.of(run))).encode()).hexdigest()[:8]
        short = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        folder = self.work / code / f"{short}-{digest}"
        if made_by and not folder.exists():
            raise SystemExit(
                f"{name}: there is no {folder}, which its row is of; --fresh makes that again"
            )
        return folder

    def finished(self, name: str) -> Path:
        """Return the folder of a run, trained to its end."""
        run, folder = RUNS[name], self.folder(name)
        config = self._config(run)
        if steps_done(folder) == config.steps:
            return folder
        source = network_of(run)
        pictures = self.pictures(source.scale)

        def build() -> SRNetwork:
            return source.build(self.weights)

        options = self._options(run)
        if run.method == "odm" and "variance_weight" not in run.options:
            if run.weighted_as:
                weight = variance_weight(self.finished(run.weighted_as))
            else:
                weight = choose_variance_weight(build, pictures, config, options, folder, print)
            options = replace(options, variance_weight=weight)
        method = RandomStart if run.random_start else METHODS[run.method]
        trainer = Trainer(build(), pictures, config, folder, method(options))
        if (folder / "state.pt").exists():
            trainer.resume()
            print(f"{name}: goes on at step {trainer.step}", flush=True)
        trainer.train(lambda record: tell(name, record))
        return folder

    def pictures(self, scale: int) -> TrainingPictures:
        """Return what networks of an enlargement are trained and validated on."""
        if scale not in self._pictures:
            config = self._config(RUNS["float"])
            paths = list_images(self.data / "train")
            self._pictures[scale] = TrainingPictures(paths, config, scale)
        return self._pictures[scale]

    def _config(self, run: Run) -> TrainConfig:
        """As `ptqsr finetune` does."""
        scale = self.scale.of(run)
        return TrainConfig(
            steps=scale.steps,
            batch_size=scale.batch,
            patch_size=scale.patch,
            learning_rate=scale.learning_rate,
            warmup=0,
            phases=METHODS[run.method].phases if run.trained else 0,
            clip=math.inf,
            ema=0.0,
            validate_every=self.validate_every,
            seed=scale.seed,
            precision=PRECISION,
        )

    def _options(self, run: Run) -> Options:
        method, scale = METHODS[run.method], self.scale.of(run)
        selection = None
        if run.taught_by:
            # The paper's w_reg is four times as large at the end as at the start.
            growth = 3 * scale.bit_weight * 1000 / scale.steps
            chosen = {"bit_weight": scale.bit_weight, "bit_weight_growth": growth}
            selection = Selection(self.finished(run.taught_by), **{**chosen, **run.selection})
        defaults = {
            "skt_weight": method.skt_weight,
            "range_factor": scale.range_learning_rate / scale.learning_rate,
            "init_batches": max(1, scale.steps // method.epochs),
        }
        quantization = Config(method=run.method, bits=run.bits)
        return Options(quantization, selection=selection, **{**defaults, **run.options})

    def record(self, name: str) -> Row:
        """Return what there is to say of how a row's network was made."""
        run = RUNS[name]
        row = {"network": run.network, "method": run.method, "bits": run.bits}
        if run.method == "float":
            pairs = self.pictures(network_of(run).scale).validation
            start = evaluate(network_of(run).build(self.weights), pairs).psnr
            return {**row, "curve": {"0": round(start, 4)}}
        if not run.trained:
            return row
        made = read_run(self.finished(name))
        if run.weighted_as:
            made["variance_weight"] = variance_weight(self.finished(run.weighted_as))
        return {**row, **self.scale.settings(run), **made}


class RandomStart(PAMS):
    """PAMS whose alphas begin anywhere up to MOST (Table 5)."""

    def initialise(self, network: nn.Module, batches: Batches, show: Show) -> None:
        super().initialise(network, batches, show)
        generator = torch.Generator().manual_seed(0)
        for quantizer in quantizers_of(network):
            assert isinstance(quantizer, MaxScaleQuantizer)
            quantizer.start.fill_(float(torch.rand((), generator=generator)) * MOST)

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "start": "random"}
