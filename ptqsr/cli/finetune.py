"""`ptqsr finetune`: quantization-aware training, from a float network to a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ptqsr import models
from ptqsr.cli.networks import Settings, float_network
from ptqsr.cli.options import Model, NetworkScale, Weights
from ptqsr.cli.output import JsonFile, check_json, progress_bar, stderr
from ptqsr.cli.running import carry_out, check_run, joined, resumed, set_aside
from ptqsr.cli.tuning import check_used, configured, options_of
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.evaluation import evaluate
from ptqsr.files import check_folder
from ptqsr.images import list_images
from ptqsr.training import TrainConfig, Trainer, processes
from ptqsr.training.data import TrainingPictures
from ptqsr.training.loop import check
from ptqsr.training.methods import CHECKPOINT, METHODS, Options, QuantizationAware

DEFAULT = Options(Config())
# Options under the headings of the help.
quantized, training, odm, cadyq, running = (
    partial(typer.Option, rich_help_panel=heading)
    for heading in ("What is quantized", "Training", "ODM", "CADyQ", "The run")
)


def finetune(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of high-resolution pictures, as DIV2K.")
    ] = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "pams",
    model: Model = None,
    scale: NetworkScale = None,
    weights: Weights = "bundled",
    settings: Settings = None,
    bits: Annotated[
        int | None, quantized(help="Bits of weights and activations, 2 to 8; by default 4.")
    ] = None,
    weight_bits: Annotated[int | None, quantized(help="Bits of weights.")] = None,
    act_bits: Annotated[int | None, quantized(help="Bits of activations.")] = None,
    include: Annotated[
        list[str] | None, quantized(help="Quantize these convolutions too (name pattern).")
    ] = None,
    exclude: Annotated[
        list[str] | None, quantized(help="Do not quantize these (name pattern).")
    ] = None,
    placement: Annotated[
        str, quantized(help="deployable: in front of convolutions; paper: PAMS', in shortcuts too.")
    ] = DEFAULT.placement,
    steps: Annotated[
        int | None, training(help="In all, resumed ones too; by default the paper's.")
    ] = None,
    batch_size: Annotated[
        int | None, training(help="Crops a step; by default the paper's.")
    ] = None,
    patch_size: Annotated[int, training(help="In input pixels.")] = 48,
    learning_rate: Annotated[
        float, training(help="Adam's, halved as often as in the paper, whatever the steps.")
    ] = 1e-4,
    range_learning_rate: Annotated[
        float | None,
        training(help="Of ranges and offsets, in units of their start; by default the same."),
    ] = None,
    init_batches: Annotated[
        int | None, training(help="That ranges start from; by default an epoch of the paper's.")
    ] = None,
    skt: Annotated[
        str, training(help="Structured knowledge transfer: mean (the authors' code) or norm.")
    ] = DEFAULT.skt,
    skt_weight: Annotated[
        float | None, training(help="Its weight; 0: none. By default the method's.")
    ] = None,
    variance_weight: Annotated[
        float | None, odm(help="lambda_V; by default chosen by three short runs.")
    ] = None,
    cooperative: Annotated[bool, odm(help="Regularise only where the gradients agree.")] = True,
    offset_ratio: Annotated[
        float, odm(help="Part of the layers that get a shift, and a gain.")
    ] = DEFAULT.offset_ratio,
    teacher: Annotated[
        Path | None, cadyq(help="Folder of a run of --method pams --bits 8.")
    ] = None,
    candidates: Annotated[
        str | None, cadyq(help="Bits of features to choose from; by default 4,6,8.")
    ] = None,
    choose_by: Annotated[
        str | None,
        cadyq(help="both (default), layer or patch (Table 2), range, std or layer-std (3)."),
    ] = None,
    bit_loss: Annotated[
        str | None, cadyq(help="weighted (Eq. 7, the default) or plain (Eq. 6).")
    ] = None,
    bit_loss_weight: Annotated[
        float | None, cadyq(help="w_reg at the start; by default 1e-4.")
    ] = None,
    bit_loss_growth: Annotated[
        float | None, cadyq(help="Of w_reg in 1,000 steps; by default 1e-6.")
    ] = None,
    feature_weight: Annotated[
        float | None, cadyq(help="w_kdf, of the layers' outputs; by default 100.")
    ] = None,
    unsigned_after_relu: Annotated[
        bool, cadyq(help="Quantize what is never negative over [0, a].")
    ] = False,
    weights_follow_bits: Annotated[
        bool, cadyq(help="4-bit weights for patches of 4 bits or fewer.")
    ] = False,
    clip: Annotated[float, training(help="Largest norm of the gradient.")] = math.inf,
    ema: Annotated[float, training(help="Decay of averaged weights; 0: no average.")] = 0.0,
    validation_images: Annotated[
        int | None, running(help="Pictures to set aside; by default 10, or of few a fifth.")
    ] = None,
    validate_every: Annotated[int, running(help="Steps; the run is saved then.")] = 1000,
    precision: Annotated[
        str, training(help="auto (fp32), fp32, or bf16: faster, on somewhat other levels.")
    ] = "auto",
    device: Annotated[str, running(help="cpu, cuda, cuda:1, ...")] = "cpu",
    seed: Annotated[int, training(help="Of the crops.")] = 0,
    resume: Annotated[bool, running(help="Go on with the run in the folder.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Train a network to be quantized; resumable. Several processes: torchrun -m ptqsr finetune."""
    asked = dict(locals())
    if images is None:
        raise PtqsrError(
            "--images: name a folder of high-resolution pictures, as DIV2K; to quantize without "
            "data use `ptqsr calibrate`"
        )
    if method not in METHODS:
        raise PtqsrError(f"method {method!r} is unknown; choose {', '.join(METHODS)}")
    check_used(context, method)
    config = configured(asked, METHODS[method])
    hook = METHODS[method](options_of(asked, METHODS[method], config))
    check_json(json_file)
    check_folder(output)
    check_run(output, resume)

    def build() -> models.SRNetwork:
        return float_network(model, scale, weights, settings)

    paths = list_images(images)
    with joined(device) as place:
        aside = set_aside(validation_images, paths)
        config = replace(config, device=place, validation_images=aside)
        _run(build, paths, config, hook, output, resume, json_file)


def _run(
    build: Callable[[], models.SRNetwork],
    paths: list[Path],
    config: TrainConfig,
    hook: QuantizationAware,
    output: Path,
    resume: bool,
    json_file: str | None,
) -> None:
    network = build()
    check(network, config, hook)
    pictures = TrainingPictures(paths, config, network.scale)
    tell = partial(stderr.print, soft_wrap=True)
    with progress_bar() as show:
        hook = hook.prepare(build, pictures, config, output, tell, show)
    trainer = Trainer(network, pictures, config, output, hook)
    if resume:
        resumed(trainer)
    figures = {
        "checkpoint": str(output / CHECKPOINT),
        "model": network.title,
        "scale": network.scale,
        **hook.figures(),
    }
    if trainer.validation and processes.rank() == 0:
        figures["full_precision_psnr"] = evaluate(hook.teacher, trainer.validation).psnr
    if trainer.step == 0 and hook.first_batches:
        tell(f"Ranges start from {hook.first_batches} batches of the float network")
    title = f"{network.title} x{network.scale}, {hook.title()}"
    carry_out(trainer, title, figures, json_file)
    tell(
        f"Written: {output / CHECKPOINT}  (measure it: ptqsr evaluate {output / CHECKPOINT} "
        "--data DIR)"
    )
