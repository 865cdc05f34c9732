"""What `ptqsr finetune` is asked for: which options are whose, and what they make."""

from __future__ import annotations

import math
from typing import Any

import typer

from ptqsr.cli.selecting import selection_of
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.training import TrainConfig
from ptqsr.training.methods import METHODS, CADyQ, Options, QuantizationAware
from ptqsr.training.methods.teacher import TEACHER_BITS

EPOCH = 1000  # steps, in the papers' count

SELECTION = (
    "candidates",
    "choose_by",
    "bit_loss",
    "bit_loss_weight",
    "bit_loss_growth",
    "feature_weight",
    "unsigned_after_relu",
    "weights_follow_bits",
)
# Options that not all methods use, and the methods that do.
USED_BY: dict[str, tuple[str, ...]] = {
    "range_learning_rate": ("pams", "odm", "cadyq", "pact"),
    "init_batches": tuple(name for name in METHODS if name != "cadyq"),
    **dict.fromkeys(("variance_weight", "cooperative", "offset_ratio"), ("odm",)),
    **dict.fromkeys(("teacher", *SELECTION), ("cadyq",)),
}


def check_used(context: typer.Context, method: str) -> None:
    """Raise PtqsrError where an option is given that the method does not use."""
    for name, methods in USED_BY.items():
        source = context.get_parameter_source(name)
        # By name: typer may bring a click of its own, whose enumeration is another.
        if source is not None and source.name != "DEFAULT" and method not in methods:
            option = ("no-" if context.params[name] is False else "") + name.replace("_", "-")
            raise PtqsrError(f"--{option}: is for --method {', '.join(methods)}, not {method}")


def configured(asked: dict[str, Any], method: type[QuantizationAware]) -> TrainConfig:
    """Return how to train; `asked`: the command's options by name, None for the paper's."""
    steps, batch_size = asked["steps"], asked["batch_size"]
    same = ("patch_size", "learning_rate", "clip", "ema", "validate_every", "precision", "seed")
    return TrainConfig(
        steps=method.epochs * EPOCH if steps is None else steps,
        batch_size=method.batch_size if batch_size is None else batch_size,
        warmup=0,
        phases=method.phases,
        validation_images=0 if asked["validation_images"] is None else asked["validation_images"],
        **{name: asked[name] for name in same},
    )


def options_of(
    asked: dict[str, Any], method: type[QuantizationAware], config: TrainConfig
) -> Options:
    """Return what the method is asked for."""
    bits, weight_bits, act_bits = (asked[name] for name in ("bits", "weight_bits", "act_bits"))
    selection = None
    if method is CADyQ:
        given = {name: asked[name] for name in SELECTION if asked[name] is not None}
        selection = selection_of(asked["teacher"], given, bits=bits, act_bits=act_bits)
        weight_bits = TEACHER_BITS if weight_bits is None else weight_bits
        bits = max(selection.candidates)
    bits = 4 if bits is None else bits
    skt_weight, init_batches = asked["skt_weight"], asked["init_batches"]
    rate = asked["range_learning_rate"]
    if rate is not None and not 0 <= rate < math.inf:
        raise PtqsrError(f"--range-learning-rate {rate}: must be a finite number, at least 0")
    quantization = Config(
        method=method.name,
        bits=bits,
        weight_bits=bits if weight_bits is None else weight_bits,
        act_bits=bits if act_bits is None else act_bits,
        include=tuple(asked["include"] or ()),
        exclude=tuple(asked["exclude"] or ()),
    )
    return Options(
        quantization,
        skt_weight=method.skt_weight if skt_weight is None else skt_weight,
        range_factor=1.0 if rate is None else rate / config.learning_rate,
        init_batches=max(1, config.steps // method.epochs)
        if init_batches is None
        else init_batches,
        selection=selection,
        **{
            name: asked[name]
            for name in ("placement", "skt", "variance_weight", "cooperative", "offset_ratio")
        },
    )
