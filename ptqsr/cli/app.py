"""The commands, put together."""

from __future__ import annotations

from collections.abc import Callable

import typer

import ptqsr
from ptqsr.cli.benchmark import benchmark
from ptqsr.cli.calibrate import calibrate
from ptqsr.cli.evaluate import evaluate
from ptqsr.cli.export import export
from ptqsr.cli.finetune import finetune
from ptqsr.cli.info import info
from ptqsr.cli.output import one_line_errors
from ptqsr.cli.plan import plan
from ptqsr.cli.report import make_report
from ptqsr.cli.sensitivity import sensitivity
from ptqsr.cli.train import train
from ptqsr.cli.upscale import upscale
from ptqsr.cli.zoo import list_models

app = typer.Typer(
    name="ptqsr",
    help="Post-training quantization of image super-resolution networks.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "plan": plan,
    "sensitivity": sensitivity,
    "calibrate": calibrate,
    "evaluate": evaluate,
    "upscale": upscale,
    "export": export,
    "benchmark": benchmark,
    "train": train,
    "finetune": finetune,
    "report": make_report,
    "models": list_models,
    "info": info,
}
for name, command in COMMANDS.items():
    app.command(name)(one_line_errors(command))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(ptqsr.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True),
) -> None:
    pass
