"""`ptqsr train`: a float network from pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from ptqsr import models
from ptqsr.cli.networks import Settings, hyperparameters
from ptqsr.cli.output import JsonFile, check_json, stderr
from ptqsr.cli.running import carry_out, check_run, joined, resumed, set_aside
from ptqsr.errors import PtqsrError
from ptqsr.images import list_images
from ptqsr.training import TrainConfig, Trainer

DEFAULT = TrainConfig()


def train(
    images: Annotated[Path, typer.Option(help="Folder of high-resolution pictures.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    model: Annotated[str, typer.Option(help=f"One of {', '.join(models.ARCHITECTURES)}.")] = "edsr",
    scale: Annotated[int, typer.Option(help="2, 3 or 4.")] = 4,
    settings: Settings = None,
    weights: Annotated[
        str | None, typer.Option(help="What to start from: bundled, official, or a weight file.")
    ] = None,
    transfer: Annotated[
        Path | None,
        typer.Option(help="Start from what fits of these weights, of another scale for instance."),
    ] = None,
    steps: Annotated[int, typer.Option(help="In all, resumed ones too.")] = DEFAULT.steps,
    batch_size: Annotated[int, typer.Option(help="Crops a step.")] = DEFAULT.batch_size,
    patch_size: Annotated[int, typer.Option(help="In input pixels.")] = DEFAULT.patch_size,
    learning_rate: Annotated[
        float, typer.Option(help="Adam's, at the end of the warm-up.")
    ] = DEFAULT.learning_rate,
    warmup: Annotated[int, typer.Option(help="Steps.")] = DEFAULT.warmup,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = DEFAULT.clip,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights.")] = DEFAULT.ema,
    validation_images: Annotated[
        int | None, typer.Option(help="Pictures to set aside; by default 10, or of few a fifth.")
    ] = None,
    validate_every: Annotated[int, typer.Option(help="Steps.")] = DEFAULT.validate_every,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = DEFAULT.precision,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = DEFAULT.device,
    seed: Annotated[int, typer.Option(help="Of first weights and crops.")] = DEFAULT.seed,
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Train a network by the mean absolute error; resumable at every validation.

    Several processes: torchrun -m ptqsr train.
    """
    config = TrainConfig(
        steps=steps,
        batch_size=batch_size,
        patch_size=patch_size,
        learning_rate=learning_rate,
        warmup=warmup,
        clip=clip,
        ema=ema,
        validation_images=validation_images or 0,
        validate_every=validate_every,
        precision=precision,  # type: ignore[arg-type]
        seed=seed,
    )
    check_json(json_file)
    check_run(output, resume)
    if transfer and weights:
        raise PtqsrError("--transfer and --weights exclude each other; give one of them")
    torch.manual_seed(seed)
    network = models.build(model, scale=scale, weights=weights, **hyperparameters(settings))
    if transfer:
        left = ", ".join(models.transfer(network, transfer)) or "nothing"
        stderr.print(f"Not in {transfer}, so from scratch: {left}", soft_wrap=True)
    paths = list_images(images)
    with joined(device) as place:
        aside = set_aside(validation_images, paths)
        config = replace(config, device=place, validation_images=aside)
        trainer = Trainer(network, paths, config, output)
        if resume:
            resumed(trainer)
        figures = {"weights": str(output / "weights.safetensors")}
        carry_out(trainer, f"{model} x{scale}", figures, json_file)
