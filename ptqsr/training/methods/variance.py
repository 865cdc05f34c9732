"""Which lambda_V ODM takes, where nobody says: a rule on held-out training pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ptqsr.errors import PtqsrError
from ptqsr.files import replacing
from ptqsr.images import unit_luma
from ptqsr.models import SRNetwork, observing
from ptqsr.modules import quantizable
from ptqsr.training import processes
from ptqsr.training.config import TrainConfig
from ptqsr.training.data import TrainingPictures
from ptqsr.training.loop import Trainer
from ptqsr.training.methods.odm import ODM
from ptqsr.training.methods.options import Options

# How large lambda_V * sum of std(X_i) is at the start, in units of the L1 loss.
RATIOS = (0.01, 0.1, 1.0)
TRIAL = 20  # a trial takes this part of the run's steps
CHOICE = "variance_weight.json"


def choose_variance_weight(
    build: Callable[[], SRNetwork],
    pictures: TrainingPictures,
    config: TrainConfig,
    options: Options,
    run: Path,
    progress: Callable[[dict[str, Any]], None] = lambda record: None,
) -> float:
    """Return the lambda_V whose trial is best on the held-out training pictures.

    The unit is the float network's L1 loss by its sum of std(X_i), both of the first batch. For
    every ratio of RATIOS a run of 1/20 of the steps, from the same start and at the first learning
    rate; the highest PSNR wins, of equal ones the smaller weight. The choice is written to
    `variance_weight.json`, and is read there where it has been made. `build` gives the float
    network. Raises PtqsrError where no picture is held out.
    """
    path = run / CHOICE
    if path.exists():
        try:
            return float(json.loads(path.read_text(encoding="utf-8"))["variance_weight"])
        except (ValueError, TypeError, KeyError):
            raise PtqsrError(f"{path}: is no choice of ours; delete it to choose again") from None
    if not pictures.validation:
        raise PtqsrError(
            "no pictures are held out to choose ODM's variance weight on; set some aside with "
            "--validation-images, or give --variance-weight"
        )
    short = max(1, config.steps // TRIAL)
    trial = replace(config, steps=short, validate_every=short, phases=1)
    unit = _unit(build(), pictures, options)
    rows = []
    for ratio in RATIOS:
        weight = ratio * unit
        hook = ODM(replace(options, variance_weight=weight))
        records: list[dict[str, Any]] = []
        Trainer(build(), pictures, trial, run / "trials" / f"{ratio:g}", hook).train(records.append)
        psnr = records[-1]["validation_psnr"] if records else 0.0  # the first process alone knows
        rows.append({"ratio": ratio, "variance_weight": weight, "psnr": psnr})
        if records:
            progress(rows[-1])
    best = max(rows, key=lambda row: (row["psnr"], -row["ratio"]))
    device = torch.device(config.device)
    chosen = processes.of_first(best["variance_weight"], device)
    if processes.rank() == 0:
        with replacing(path) as temporary:
            text = json.dumps({"variance_weight": chosen, "trials": rows}, indent=1) + "\n"
            temporary.write_text(text, encoding="utf-8")
    return chosen


@torch.no_grad()
def _unit(network: SRNetwork, pictures: TrainingPictures, options: Options) -> float:
    lr, hr = (crops.float() / 255 for crops in pictures.sampler.batch(0))
    if network.colours == "y":
        lr, hr = unit_luma(lr), unit_luma(hr)
    wanted = options.quantization
    layers = quantizable(network, wanted.include, wanted.exclude)
    deviations: list[float] = []
    with observing(layers, lambda _, x: deviations.append(float(x.std(unbiased=False)))):
        loss = F.l1_loss(network(lr), hr) * 255
    return float(loss) / max(sum(deviations), torch.finfo(torch.float32).tiny)
