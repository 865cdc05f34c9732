"""Which lambda_V ODM takes, where nobody says: a rule on held-out training pictures."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ptqsr.errors import PtqsrError
from ptqsr.files import replacing
from ptqsr.images import unit_luma
from ptqsr.models import SRNetwork, digest_of, observing
from ptqsr.modules import quantizable
from ptqsr.training import processes
from ptqsr.training.config import TrainConfig
from ptqsr.training.data import TrainingPictures
from ptqsr.training.hooks import Show, silent
from ptqsr.training.log import last_record, plain
from ptqsr.training.loop import LOG, Diverged, Trainer
from ptqsr.training.methods.odm import ODM
from ptqsr.training.methods.options import Options
from ptqsr.training.state import MAY_CHANGE, STATE, check_same, read_state

log = logging.getLogger("ptqsr")
# How large lambda_V * sum of std(X_i) is at the start, in units of the L1 loss.
RATIOS = (0.01, 0.1, 1.0)
TRIAL = 20  # a trial takes this part of the run's steps
CHOICE = "variance_weight.json"
TRIALS = "trials"
# dB by which the best trial must lead to mean anything.
CLEAR = 0.01
DIVERGED = -math.inf


def choose_variance_weight(
    build: Callable[[], SRNetwork],
    pictures: TrainingPictures,
    config: TrainConfig,
    options: Options,
    run: Path,
    progress: Callable[[dict[str, Any]], None] = lambda record: None,
    show: Show = silent,
) -> float:
    """Return the lambda_V whose trial is best on the held-out training pictures.

    The unit is the float network's L1 loss by its sum of std(X_i), both of the first batch. For
    every ratio of RATIOS a run of 1/20 of the steps, from the same start and at the first learning
    rate; the highest PSNR wins, of equal ones the smaller weight. Trials that were stopped go on.
    The choice is written to `variance_weight.json`, and is read there where it has been made.
    `build` gives the float network. Raises PtqsrError where no picture is held out, where all
    trials diverge, or where the choice was made for another run.
    """
    network, device = build(), torch.device(config.device)
    made_for = _made_for(network, pictures, config, options)
    begun = read_state(run)["identity"] if (run / STATE).exists() else None
    if begun is not None:
        check_same(run / STATE, _as_json(begun), made_for)
    known = _read(run / CHOICE, made_for) if processes.rank() == 0 else None
    known = processes.of_first(math.nan if known is None else known, device)
    if not math.isnan(known):
        return known
    if begun is not None:
        given = begun.get("variance_weight")
        raise PtqsrError(f"{run}: was trained with --variance-weight {given}; give that")
    if not pictures.validation:
        raise PtqsrError(
            "no pictures are held out to choose ODM's variance weight on; set some aside with "
            "--validation-images, or give --variance-weight"
        )
    short = max(1, config.steps // TRIAL)
    trial = replace(config, steps=short, validate_every=min(short, config.validate_every), phases=1)
    unit = _unit(network, pictures, options)
    rows = []
    for ratio in RATIOS:
        hook = ODM(replace(options, variance_weight=ratio * unit))
        folder = run / TRIALS / f"{short}-{ratio:g}"
        psnr = _trial(lambda f=folder, h=hook: Trainer(build(), pictures, trial, f, h), show)  # type: ignore[misc]
        rows.append({"ratio": ratio, "variance_weight": ratio * unit, "psnr": psnr})
        progress(rows[-1])
    if all(row["psnr"] == DIVERGED for row in rows):
        raise PtqsrError(
            "all runs to choose ODM's variance weight diverged; lower --learning-rate, or give "
            "--variance-weight"
        )
    best = max(rows, key=lambda row: (row["psnr"], -row["ratio"]))
    chosen = processes.of_first(best["variance_weight"], device)
    if processes.rank() == 0:
        _warn_if_unclear([row["psnr"] for row in rows])
        record = {"variance_weight": chosen, "trials": list(map(plain, rows)), "run": made_for}
        with replacing(run / CHOICE) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(run / TRIALS)
    return chosen


def _trial(make: Callable[[], Trainer], show: Show) -> float:
    """Return the PSNR that a trial ends with, which the first process alone knows."""
    trainer = make()
    if (trainer.run / STATE).exists():
        try:
            trainer.resume()
        except PtqsrError:  # what a choice for another run has left there
            trainer = make()
    steps = trainer.config.steps
    name = f"steps of trial {trainer.run.name.partition('-')[2]}"
    try:
        trainer.train(lambda record: show(name, record["step"], steps), show)
    except Diverged:
        return DIVERGED
    if processes.rank():
        return 0.0
    return float(last_record(trainer.run / LOG)["validation_psnr"])


def _warn_if_unclear(psnrs: list[float]) -> None:
    first, second = sorted(psnrs, reverse=True)[:2]
    if first - second < CLEAR:
        log.warning(
            "the variance weights differ by %.4f dB, which says little; longer runs, more pictures "
            "to validate on or --variance-weight settle it",
            first - second,
        )


def _made_for(
    network: SRNetwork, pictures: TrainingPictures, config: TrainConfig, options: Options
) -> dict[str, Any]:
    """Return what a choice depends on, as JSON."""
    found = {
        "architecture": network.architecture,
        **network.hyperparameters,
        "weights": f"of digest {digest_of(network.state_dict())}",
        "pictures": pictures.identity,
        **options.to_json(),
        **config.to_json(),
    }
    for name in (*MAY_CHANGE, "variance_weight", "init_batches"):
        del found[name]
    return _as_json(found)


def _as_json(found: dict[str, Any]) -> dict[str, Any]:
    """Return what a file of JSON would give back."""
    made: dict[str, Any] = json.loads(json.dumps(plain(found)))
    return made


def _read(path: Path, made_for: dict[str, Any]) -> float | None:
    """Return the choice that has been made for this run, if any."""
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        weight, theirs = float(record["variance_weight"]), dict(record["run"])
    except (ValueError, TypeError, KeyError):
        raise PtqsrError(f"{path}: is no choice of ours; delete it to choose again") from None
    for name, value in made_for.items():
        if theirs.get(name) != value:
            raise PtqsrError(
                f"{path}: was chosen for {name} = {theirs.get(name)}, not {value}; delete it to "
                "choose again"
            )
    return weight


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
