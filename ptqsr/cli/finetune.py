"""`ptqsr finetune`: quantization-aware training, from a float network to a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ptqsr import models
from ptqsr.cli.networks import Settings, hyperparameters
from ptqsr.cli.output import JsonFile, check_json, stderr
from ptqsr.cli.running import carry_out
from ptqsr.cli.selecting import selection_of
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.evaluation import evaluate
from ptqsr.files import check_folder
from ptqsr.images import list_images
from ptqsr.training import TrainConfig, Trainer, processes
from ptqsr.training.data import TrainingPictures
from ptqsr.training.methods import CHECKPOINT, METHODS, Options, QuantizationAware
from ptqsr.training.methods.teacher import TEACHER_BITS
from ptqsr.training.methods.variance import choose_variance_weight

EPOCH = 1000  # steps, in the papers' count
DEFAULT = Options(Config())


def finetune(
    images: Annotated[Path, typer.Option(help="Folder of high-resolution pictures.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "pams",
    model: Annotated[str, typer.Option(help=f"One of {', '.join(models.ARCHITECTURES)}.")] = "edsr",
    scale: Annotated[
        int | None, typer.Option(help="2, 3 or 4; by default the weights' or 4.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="The float network: bundled, official, or a weight file.")
    ] = "bundled",
    settings: Settings = None,
    bits: Annotated[
        int | None, typer.Option(help="Bits of weights and activations, 2 to 8; by default 4.")
    ] = None,
    weight_bits: Annotated[int | None, typer.Option(help="Bits of weights.")] = None,
    act_bits: Annotated[int | None, typer.Option(help="Bits of activations.")] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Quantize these convolutions too (name pattern).")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Do not quantize these (name pattern).")
    ] = None,
    placement: Annotated[
        str,
        typer.Option(help="deployable: in front of convolutions; paper: PAMS', in shortcuts too."),
    ] = DEFAULT.placement,
    steps: Annotated[
        int | None, typer.Option(help="In all, resumed ones too; by default the paper's.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Crops a step; by default the paper's.")
    ] = None,
    patch_size: Annotated[int, typer.Option(help="In input pixels.")] = 48,
    learning_rate: Annotated[
        float, typer.Option(help="Adam's, halved as often as in the paper, whatever the steps.")
    ] = 1e-4,
    range_learning_rate: Annotated[
        float | None, typer.Option(help="Of ranges and offsets; by default the same.")
    ] = None,
    init_batches: Annotated[
        int | None, typer.Option(help="That ranges start from; by default an epoch of the paper's.")
    ] = None,
    skt: Annotated[
        str, typer.Option(help="Structured knowledge transfer: mean (the authors' code) or norm.")
    ] = DEFAULT.skt,
    skt_weight: Annotated[
        float | None, typer.Option(help="Its weight; 0: none. By default the method's.")
    ] = None,
    variance_weight: Annotated[
        float | None,
        typer.Option(help="ODM's lambda_V; by default chosen by three short runs."),
    ] = None,
    cooperative: Annotated[
        bool, typer.Option(help="ODM: regularise only where the gradients agree.")
    ] = True,
    offset_ratio: Annotated[
        float, typer.Option(help="ODM: part of the layers that get a shift, and a gain.")
    ] = DEFAULT.offset_ratio,
    teacher: Annotated[
        Path | None, typer.Option(help="CADyQ: folder of a run of --method pams --bits 8.")
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(help="CADyQ: bits of features to choose from; by default 4,6,8.")
    ] = None,
    choose_by: Annotated[
        str | None,
        typer.Option(
            help="CADyQ: both (default), layer or patch (Table 2), range, std or layer-std (3)."
        ),
    ] = None,
    bit_loss: Annotated[
        str | None, typer.Option(help="CADyQ: weighted (Eq. 7, the default) or plain (Eq. 6).")
    ] = None,
    bit_weight: Annotated[
        float | None, typer.Option(help="CADyQ: w_reg at the start; by default 1e-4.")
    ] = None,
    bit_weight_growth: Annotated[
        float | None, typer.Option(help="CADyQ: of w_reg in 1,000 steps; by default 1e-6.")
    ] = None,
    feature_weight: Annotated[
        float | None, typer.Option(help="CADyQ: w_kdf, of the layers' outputs; by default 100.")
    ] = None,
    unsigned_after_relu: Annotated[
        bool, typer.Option(help="CADyQ: quantize what is never negative over [0, a].")
    ] = False,
    weights_follow_bits: Annotated[
        bool, typer.Option(help="CADyQ: 4-bit weights for patches of 4 bits or fewer.")
    ] = False,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = math.inf,
    ema: Annotated[float, typer.Option(help="Decay of averaged weights; 0: no average.")] = 0.0,
    validation_images: Annotated[int, typer.Option(help="Pictures to set aside.")] = 10,
    validate_every: Annotated[int, typer.Option(help="Steps; the run is saved then.")] = 1000,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of the crops.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Train a network to be quantized; resumable. Several processes: torchrun -m ptqsr finetune."""
    if method not in METHODS:
        raise PtqsrError(f"method {method!r} is unknown; choose {', '.join(METHODS)}")
    chosen = METHODS[method]
    given = {
        "candidates": candidates,
        "choose_by": choose_by,
        "bit_loss": bit_loss,
        "bit_weight": bit_weight,
        "bit_weight_growth": bit_weight_growth,
        "feature_weight": feature_weight,
        "unsigned_after_relu": unsigned_after_relu or None,
        "weights_follow_bits": weights_follow_bits or None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    selection = None
    if method == "cadyq":
        selection = selection_of(teacher, given, bits=bits, act_bits=act_bits)
        weight_bits = TEACHER_BITS if weight_bits is None else weight_bits
        act_bits = max(selection.candidates)
        bits = act_bits
    elif teacher is not None or given:
        option = "teacher" if teacher is not None else next(iter(given))
        raise PtqsrError(f"--{option.replace('_', '-')}: is for --method cadyq, not {method}")
    bits = 4 if bits is None else bits
    steps = chosen.epochs * EPOCH if steps is None else steps
    config = TrainConfig(
        steps=steps,
        batch_size=chosen.batch_size if batch_size is None else batch_size,
        patch_size=patch_size,
        learning_rate=learning_rate,
        warmup=0,
        phases=chosen.phases,
        clip=clip,
        ema=ema,
        validation_images=validation_images,
        validate_every=validate_every,
        precision=precision,  # type: ignore[arg-type]
        seed=seed,
    )
    rate = learning_rate if range_learning_rate is None else range_learning_rate
    options = Options(
        Config(
            method=method,
            bits=bits,
            weight_bits=bits if weight_bits is None else weight_bits,
            act_bits=bits if act_bits is None else act_bits,
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
        ),
        placement=placement,
        skt=skt,
        skt_weight=chosen.skt_weight if skt_weight is None else skt_weight,
        range_factor=rate / learning_rate,
        init_batches=max(1, steps // chosen.epochs) if init_batches is None else init_batches,
        variance_weight=variance_weight or 0.0,
        cooperative=cooperative,
        offset_ratio=offset_ratio,
        selection=selection,
    )
    check_json(json_file)
    check_folder(output)
    _check_run(output, resume)
    _check_odm(method, variance_weight=variance_weight, cooperative=cooperative)
    hook = chosen(options)

    def build() -> models.SRNetwork:
        return models.build(model, scale=scale, weights=weights, **hyperparameters(settings))

    with processes.joined(device) as place:
        stderr.quiet = processes.rank() > 0
        config = replace(config, device=place)
        _run(build, list_images(images), config, hook, variance_weight, output, resume, json_file)


def _run(
    build: Callable[[], models.SRNetwork],
    paths: list[Path],
    config: TrainConfig,
    hook: QuantizationAware,
    variance_weight: float | None,
    output: Path,
    resume: bool,
    json_file: str | None,
) -> None:
    network = build()
    pictures = TrainingPictures(paths, config, network.scale)
    if hook.name == "odm" and variance_weight is None:
        weight = choose_variance_weight(build, pictures, config, hook.options, output, _tell)
        hook = type(hook)(replace(hook.options, variance_weight=weight))
    trainer = Trainer(network, pictures, config, output, hook)
    if resume and (output / "state.pt").exists():
        trainer.resume()
    elif resume:
        stderr.print(f"{output}: nothing was saved yet; begins at step 0", soft_wrap=True)
    wanted, selection = hook.options.quantization, hook.options.selection
    figures: dict[str, Any] = {
        "checkpoint": str(output / CHECKPOINT),
        "model": network.architecture,
        "scale": network.scale,
        "method": hook.name,
        "weight_bits": wanted.weight_bits,
        "act_bits": wanted.act_bits,
        "placement": hook.options.placement,
    }
    if selection is not None:
        figures["candidates"] = list(selection.candidates)
    if hook.name == "odm":
        figures["variance_weight"] = hook.options.variance_weight
    if trainer.validation and processes.rank() == 0:
        figures["full_precision_psnr"] = evaluate(hook.teacher, trainer.validation).psnr
    title = f"{network.architecture} x{network.scale}, {hook.name}, "
    bits = (wanted.act_bits,) if selection is None else selection.candidates
    title += f"W{wanted.weight_bits}A{'/'.join(map(str, bits))}"
    carry_out(trainer, title, figures, json_file)
    stderr.print(
        f"Written: {output / CHECKPOINT}  (measure it: ptqsr evaluate {output / CHECKPOINT} "
        "--data DIR)",
        soft_wrap=True,
    )


def _tell(row: dict[str, Any]) -> None:
    stderr.print(
        f"variance weight {row['variance_weight']:.3g}: {row['psnr']:.3f} dB on pictures set aside"
    )


def _check_run(output: Path, resume: bool) -> None:
    if (output / "state.pt").exists() and not resume:
        raise PtqsrError(f"{output}: holds a run already; go on with --resume or name another")
    if resume and not output.is_dir():
        raise PtqsrError(f"{output}: no such folder; there is nothing to resume")


def _check_odm(method: str, *, variance_weight: float | None, cooperative: bool) -> None:
    if method == "odm":
        return
    if variance_weight is not None or not cooperative:
        option = "--no-cooperative" if variance_weight is None else "--variance-weight"
        raise PtqsrError(f"{option}: is for --method odm, not {method}")
